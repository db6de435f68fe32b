"""The tokenizer's files, checked: its size, the five special ids, and the ids of the answer's end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from diffutron_ort.errors import CheckpointError

SPECIAL_IDS: Mapping[str, int] = {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
"""What mmBERT, and every model trained from it, has."""

ANSWER_END = "[/Answer]"

FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Tokenizer:
    """A checked tokenizer.

    Attributes:
        files: the bytes of the bundle's tokenizer files, by name.
        size: how many tokens it has, added ones included.
        special_ids: pad, eos, bos, unk and mask.
        answer_end: the ids of "[/Answer]" after a newline.
    """

    files: Mapping[str, bytes]
    size: int
    special_ids: Mapping[str, int]
    answer_end: tuple[int, ...]


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Reads and checks a folder's tokenizer against the folder's config.json.

    Raises:
        CheckpointError: a file is not there or damaged, or a special id is another than SPECIAL_IDS.
    """
    files = {name: read_bytes(folder, name) for name in FILES}
    tokenizer = load(files["tokenizer.json"])
    check_special_ids(tokenizer, special_tokens(folder, files), config)
    return Tokenizer(files, tokenizer.get_vocab_size(), dict(SPECIAL_IDS), answer_end(tokenizer))


def read_bytes(folder: Path, name: str) -> bytes:
    """A file of the tokenizer."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder.name} has no {name}; expected a fast tokenizer's files: save it with save_pretrained"
        ) from error


def load(content: bytes) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json, tried once."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        tokenizer.encode("a")  # some damage shows at the first encoding only
    except BaseException as error:
        # A Rust panic is a BaseException and of a class that cannot be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise CheckpointError(f"tokenizer.json is damaged: {error}; take an unaltered copy") from error
        raise
    return tokenizer


def special_tokens(folder: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """The text of each special token, as special_tokens_map.json or tokenizer_config.json names it."""
    settings = json_object("tokenizer_config.json", files["tokenizer_config.json"])
    older = folder / "special_tokens_map.json"
    settings |= json_object(older.name, older.read_bytes()) if older.exists() else {}
    named = {role: settings.get(f"{role}_token") or f"<{role}>" for role in SPECIAL_IDS}
    return {role: token["content"] if isinstance(token, dict) else token for role, token in named.items()}


def json_object(name: str, content: bytes) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{name} is not JSON: {error}; take an unaltered copy") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds a {type(value).__name__}, expected an object")
    return value


def check_special_ids(tokenizer: tokenizers.Tokenizer, names: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Refuses ids other than SPECIAL_IDS, which sampler and bundles count on, in the tokenizer or config.json."""
    for role, expected in SPECIAL_IDS.items():
        if (found := tokenizer.token_to_id(names[role])) != expected:
            raise CheckpointError(
                f"tokenizer.json: {role} token {names[role]!r} has id {found}, expected {expected}; "
                "only tokenizers with mmBERT's special ids can be exported"
            )
        if (found := config.get(f"{role}_token_id", expected)) not in {expected, None}:
            raise CheckpointError(
                f"config.json: {role}_token_id is {found!r} and the tokenizer's is {expected}; correct the wrong one"
            )


def answer_end(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The ids of "[/Answer]" as they follow the answer's last newline.

    Where a newline is an added token, what comes after it is tokenized as at the start of a text; elsewhere merges may
    cross it, and the start of a text is the best that can be said.
    """
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    added = tokenizer.get_added_tokens_decoder()
    if len(newline) == 1 and newline[0] in added:
        return tuple(tokenizer.encode(f"\n{ANSWER_END}", add_special_tokens=False).ids[1:])
    return tuple(tokenizer.encode(ANSWER_END, add_special_tokens=False).ids)
