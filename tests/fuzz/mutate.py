"""Make mutants: files with a few changes, as an attacker or a broken disk would make them."""

import copy
import json
import re
import struct
from random import Random

ODD = (
    None,
    True,
    False,
    -1,
    0,
    1,
    64.0,
    0.5,
    -0.0,
    2**31,
    2**63,
    10**18,
    1e308,
    -1e308,
    10**400,
    "",
    " ",
    "x",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\U0001f600",
    "../../etc/passwd",
    "/dev/zero",
    "(a+)+$",
    "a" * 20_000,
    [],
    {},
    [[]],
    [{}],
    [None],
    [1] * 5000,
    {"": None},
    {"type": "Sequence"},
    json.loads("[" * 60 + "]" * 60),
)
NAMES = (b"denoiser.onnx.data", b"location", b"offset", b"length", b"MatMul", b"Attention", b"Gather", b"Cast")
TOKENS = (
    b"NaN",
    b"Infinity",
    b"1e999",
    b'"\\ud800"',
    b"{}",
    b"[]",
    b"null",
    b'"',
    b"\xff",
    b"\x00",
    b"9" * 5000,
    b"[" * 5000,
)


def mutated_json(content: bytes, random: Random) -> bytes:
    """Return a JSON file with some values changed, moved or removed, or with some bytes changed."""
    if random.random() < 0.2:
        return mutated_bytes(content, random)
    value = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(value, random)
    return json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """Return a file with some bytes changed, removed, inserted or repeated."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        place = random.randrange(len(changed) + 1)
        length = min(random.choice((1, 1, 2, 8, 64, 4096)), len(changed) - place)
        piece = random.choice(
            (
                b"",
                bytes(random.randrange(256) for _ in range(length)),
                bytes(changed[place : place + length]) * 2,
                random.choice(TOKENS),
                _other_piece(changed, random),
            )
        )
        changed[place : place + length] = piece
    return bytes(
        changed[: random.choice((len(changed), len(changed), len(changed), random.randrange(len(changed) + 1)))]
    )


def mutated_graph(content: bytes, random: Random) -> bytes:
    """Return an ONNX file with some bytes changed, or a name replaced by another one of the same length."""
    if random.random() < 0.5:
        return mutated_bytes(content, random)
    name = random.choice(NAMES)
    places = [found.start() for found in re.finditer(re.escape(name), content)] or [0]
    place = random.choice(places)
    other = random.choice((b"../../../etc/passwd", b"*/_ORT_MEM_ADDR_/*", b"/dev/zero", b"If", b"Loop", b"\x00" * 40))
    return content[:place] + (other * 40)[: len(name)] + content[place + len(name) :]


def mutated_safetensors(content: bytes, random: Random) -> bytes:
    """Return a safetensors file with a changed header, header length, or other bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    kind = random.random()
    if kind < 0.6:
        header = mutated_json(header, random)
        length = len(header)
    elif kind < 0.8:
        length = random.choice((0, 1, length - 1, length + 1, len(content), 2**31, 2**62, 2**64 - 1))
    else:
        return mutated_bytes(content[:4096], random) + content[4096:]
    return (
        struct.pack("<Q", length) + header + data[: random.choice((len(data), len(data), random.randrange(len(data))))]
    )


def _other_piece(content: bytearray, random: Random) -> bytes:
    place = random.randrange(len(content) + 1)
    return bytes(content[place : place + random.choice((1, 8, 64))])


def _change(value: object, random: Random) -> None:
    """Change one value in nested objects and lists."""
    holders = list(_holders(value))
    if not holders:
        return
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = random.random()
    if kind < 0.65:
        holder[key] = copy.deepcopy(random.choice(ODD))
    elif kind < 0.8:
        del holder[key]
    elif kind < 0.9:  # a copy of another value of the file
        other = random.choice(holders)
        holder[key] = copy.deepcopy(random.choice(list(other.values() if isinstance(other, dict) else other)))
    elif isinstance(holder, dict):
        holder[random.choice(("x", "format", "type", "auto_map", "added_tokens", "files"))] = holder.pop(key)
    else:
        holder.insert(key, copy.deepcopy(random.choice(ODD)))


def _holders(value: object, most: int = 2000) -> list:
    """Return the objects and lists in `value` that are not empty; at most `most`, the outermost first."""
    found, level = [], [value]
    while level and len(found) < most:
        level = [item for item in level if isinstance(item, dict | list) and item]
        found += level
        level = [inner for item in level for inner in list(item.values() if isinstance(item, dict) else item)[:most]]
    return found[:most]
