"""Bodies that no client sends by accident, and some that are just within the bounds."""

import json
from collections.abc import Iterator
from typing import Any

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TURN = {"role": "user", "content": "On iki artı beş kaç eder?"}
SMALL = {"steps": 1, "max_tokens": 1}
SOUND: dict[str, dict[str, Any]] = {
    CHAT: {**SMALL, "messages": [TURN]},
    COMPLETIONS: {**SMALL, "prompt": "On iki artı"},
}
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    0.5,
    1e308,
    "",
    "x",
    "\0",
    "\x1b[2J",
    "<mask><eos>",
    "[/Answer]",
    "\ud7ff\ue000\U0010ffff",
    [],
    {},
    [[]],
    [{}],
    [None],
    [-1],
    [2**63],
    [True],
    ["x", 1],
    {"x": {"x": []}},
)
TEXTS = (  # of a body, after `{"prompt": "x", "steps": 1, "max_tokens": 1, `
    b'"seed": 1e999}',
    b'"seed": NaN}',
    b'"seed": -Infinity}',
    b'"seed": 1' + b"0" * 5000 + b"}",
    b'"temperature": 0.' + b"1" * 100_000 + b"}",
    b'"seed": 1, "seed": 2}',
    b'"prompt": "again"}',
    b'"user": "\\ud800"}',
    b'"user": "\\udc00\\ud800"}',
    b'"user": "\xff\xfe"}',
    b'"user": "\xc0\xaf"}',
    b'"user": "\xed\xa0\x80"}',
    b'"user": "\x00"}',
    b'"user": "\\u0000"}',
    b'"\\ud800": 1}',
    b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'"x": ' + b"[" * 100_000,
    b'"x": ' + b'{"x": ' * 5000 + b"1" + b"}" * 5001,
    b'"x": [' + b"1," * 400_000 + b"1]}",
    b'"user": "' + b"x" * 1_040_000 + b'"}',
    b'"user": "' + b"x" * 1_100_000 + b'"}',
    b"".join(b'"x%d": 1, ' % i for i in range(50_000)) + b'"y": 1}',
    b'"' + b"x" * 100_000 + b'": 1}',
    b'"x\\u000d\\u000aset-cookie: a": 1}',
    b'"x": 1}}',
    b'"x": 1} {}',
    b'"x": 1',
    b"",
)
WHOLE = (b"", b"\0", b"null", b"[]", b"{}", b'"x"', b"1", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}" * 2, b"\xff")


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield paths and bodies to post there."""
    start = json.dumps(SOUND[COMPLETIONS])[:-1].encode() + b", "
    yield from ((COMPLETIONS, start + text) for text in TEXTS)
    yield from ((path, whole) for path in SOUND for whole in WHOLE)
    for path, sound in SOUND.items():
        yield from (
            (path, json.dumps({**sound, **fields}).encode("utf-8", "surrogatepass")) for fields in _fields(path)
        )


def confused(path: str, names: list[str]) -> Iterator[bytes]:
    """Yield bodies in which one field has a value of any type."""
    yield from (json.dumps({**SOUND[path], name: value}).encode() for name in names for value in ODD)


def _fields(path: str) -> Iterator[dict[str, Any]]:
    yield from ({"n": n} for n in (1, 63, 64, 65))
    yield from ({"stop": ["x" * length] * count} for length in (1, 1000, 1001) for count in (0, 16, 17))
    yield from ({"suppress_tokens": list(range(count))} for count in (0, 1, 255, 256, 4096, 4097))
    yield from ({"penalty_exempt": [token]} for token in (0, 255, 2**31 - 1, 2**31, 2**63, 2**64))
    yield from (
        {"max_tokens": count, "block_length": length} for count in (200, 256, 2**31 - 1) for length in (1, 2**31 - 1)
    )
    yield from ({"stream": True, "diffusing": True, "n": n, "logprobs": True, "top_logprobs": 20} for n in (1, 4))
    yield from (
        {"steps": 4, "cache": "block", "refresh_entropy": 0.1, "commit": rule} for rule in ("factor", "entropy")
    )
    yield {"cfg_scale": 1000, "cfg_keep_tokens": [0, 1, 2], "temperature": 1000, "repetition_penalty": 0.001}
    if path == CHAT:
        yield from ({"messages": [TURN] * count} for count in (2, 3, 1024, 1025))
        yield from (
            {"messages": [{**TURN, "content": [{"type": "text", "text": "x"}] * count}]} for count in (0, 64, 65)
        )
        yield from ({"messages": [{**TURN, "content": text}]} for text in ODD)
        yield from (
            {"messages": [{**TURN, "role": role}]} for role in (*ODD, "system", "assistant", "developer", "tool")
        )
        return
    yield from (
        {"prompt": prompt, "n": n} for prompt in ([["x"], ["x"] * 8, ["x"] * 64, ["x"] * 65]) for n in (1, 8, 9)
    )
    yield from (
        {"prompt": prompt} for prompt in ([5], [[5], [6]], [[5], "x"], [5, "x"], [[], []], ["", ""], [2**62, 5])
    )
    yield from ({"prompt": [5] * length} for length in (254, 255, 256, 100_000))
    yield from ({"suffix": suffix, "n": 4} for suffix in (*ODD, "x" * 10_000, "x" * 900_000))
