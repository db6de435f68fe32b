"""Reads and checks the tokenizer's files: its size, the five special ids, and the ids of the answer's end."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tokenizers

from diffutron_ort.errors import BundleError, CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields, parse_object, read_bytes
from diffutron_ort.text.chat_template import ANSWER_END
from diffutron_ort.text.tokenizer import Tokenizer as Runtime
from diffutron_ort.types import SpecialIds
from diffutron_ort_export.checkpoint.messages import printable
from diffutron_ort_export.checkpoint.tokenizer_json import encoded, warn_of_javascript, with_short_merges, without_state
from diffutron_ort_export.checkpoint.weights import read_json
from diffutron_ort_export.passages import PASSAGES, QUESTIONS

SPECIAL_IDS: Mapping[str, int] = {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
"""The ids of mmBERT, and of every model trained from it."""

TOKENIZER, SETTINGS, OLDER = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"

SAMPLES = ("", "a", " a  b\n\n\tc ", f"\n{ANSWER_END}", "İı\u0307 ﬁ 漢 👋🏽 \x00\ufeff", *PASSAGES, *QUESTIONS)
"""Texts to try a tokenizer on: some damage shows only when a text is encoded."""


@dataclass(frozen=True)
class Tokenizer:
    """A checked tokenizer.

    Attributes:
        files: The bytes of the bundle's tokenizer files, by name.
        size: The number of tokens, added ones included.
        special_ids: The ids of pad, eos, bos, unk and mask.
        answer_end: The ids of "[/Answer]" after a newline.
        loaded: The tokenizer of the library, which adds no tokens to a text.
    """

    files: Mapping[str, bytes]
    size: int
    special_ids: Mapping[str, int]
    answer_end: tuple[int, ...]
    loaded: tokenizers.Tokenizer = field(compare=False, repr=False)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        with undamaged():
            return list(self.loaded.encode(text, add_special_tokens=False).ids)


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Read and check a folder's tokenizer against the folder's config.json.

    Raises:
        CheckpointError: A file is missing or damaged, or a special id differs from SPECIAL_IDS.
    """
    specification, content = read(folder, TOKENIZER)
    settings, settings_content = read(folder, SETTINGS)
    cleaned = with_short_merges(without_state(specification.values))
    kept = content if cleaned == specification.values else encoded(cleaned)  # encoding the real one takes a second
    tokenizer = load(kept)
    check_special_ids(tokenizer, special_tokens(folder, settings), Fields(config, "config.json", CHECKPOINT))
    size = size_of(tokenizer)
    check_runs(kept, size)
    if adds_more(tokenizer):
        kept = encoded(cleaned | {"post_processor": None})
    warn_of_javascript(specification)
    files = {
        TOKENIZER: kept,
        SETTINGS: settings_content
        if known_settings(settings) == settings.values
        else encoded(known_settings(settings)),
    }
    return Tokenizer(files, size, dict(SPECIAL_IDS), answer_end(tokenizer), tokenizer)


def read(folder: Path, name: str) -> tuple[Fields, bytes]:
    """Return a file of the tokenizer as a JSON object and as bytes."""
    if not os.path.lexists(folder / name):
        raise CheckpointError(
            f"{folder.name} has no {name}; expected a fast tokenizer's files: save it with save_pretrained"
        )
    content = read_bytes(folder / name, CHECKPOINT)
    return parse_object(content, name, CHECKPOINT), content


def load(content: bytes) -> tokenizers.Tokenizer:
    """Return the tokenizer that a tokenizer.json describes, without padding and truncation."""
    with undamaged():
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


@contextlib.contextmanager
def undamaged() -> Iterator[None]:
    """Turn every error of the tokenizers library into a CheckpointError."""
    try:
        yield
    except BaseException as error:
        # A Rust panic is a BaseException, and its class cannot be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise CheckpointError(f"{TOKENIZER} is damaged: {printable(str(error))}; take an unaltered copy") from error
        raise


def check_runs(content: bytes, size: int) -> None:
    """Check that the runtime accepts the tokenizer, before anything is encoded with it.

    It refuses, among others, what may run forever or lets a text grow without bounds.
    """
    try:
        Runtime(content, TOKENIZER, size, SpecialIds(**SPECIAL_IDS))
    except BundleError as error:
        reason = str(error).removesuffix("; export the model again")
        raise CheckpointError(f"{printable(reason)}; no bundle can hold it: take another tokenizer") from error


def adds_more(tokenizer: tokenizers.Tokenizer) -> bool:
    """Remove the post-processor, and return whether it changes texts even without special tokens."""
    with undamaged():
        tokenizer.encode("a")  # with special tokens: a damaged post-processor fails here
        before = sampled(tokenizer)
        tokenizer.post_processor = None
        return sampled(tokenizer) != before


def sampled(tokenizer: tokenizers.Tokenizer) -> list[list[int]]:
    """Return the ids of the sample texts, after decoding them as well."""
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in SAMPLES]
    tokenizer.decode_batch(ids)
    return ids


def size_of(tokenizer: tokenizers.Tokenizer) -> int:
    """Return the number of pieces, if their ids have no gaps."""
    ids = tokenizer.get_vocab().values()
    if (highest := max(ids, default=-1)) + 1 != len(ids):
        raise CheckpointError(
            f"{TOKENIZER} has {len(ids)} pieces with ids up to {highest}, expected each id once; take an unaltered copy"
        )
    return len(ids)


def special_tokens(folder: Path, settings: Fields) -> dict[str, str]:
    """Return the text of each special token, from special_tokens_map.json or tokenizer_config.json."""
    given = [read_json(folder, OLDER)] if os.path.lexists(folder / OLDER) else []
    return {role: token_text(f"{role}_token", [*given, settings], f"<{role}>") for role in SPECIAL_IDS}


def token_text(name: str, files: list[Fields], default: str) -> str:
    """Return the text of a special token from the first of some files that names it, else the default."""
    for file in files:
        if name in file:
            return file.fields(name).text("content") if isinstance(file.values[name], dict) else file.text(name)
    return default


def check_special_ids(tokenizer: tokenizers.Tokenizer, names: Mapping[str, str], config: Fields) -> None:
    """Check ids and texts against SPECIAL_IDS, which the sampler and bundles rely on, and against config.json."""
    for role, expected in SPECIAL_IDS.items():
        if (found := tokenizer.token_to_id(names[role])) != expected:
            raise CheckpointError(
                f"tokenizer.json: {role} token {printable(names[role])!r} has id {found}, expected {expected}; "
                "only tokenizers with mmBERT's special ids can be exported"
            )
        if names[role] != f"<{role}>":
            raise CheckpointError(
                f"tokenizer.json: the {role} token is {printable(names[role])!r}, expected '<{role}>'; "
                "only tokenizers with mmBERT's special tokens can be exported"
            )
        if expected not in (ids := config_ids(config, f"{role}_token_id", expected)):
            raise CheckpointError(
                f"config.json: {role}_token_id is {ids[0] if len(ids) == 1 else ids} and the tokenizer's is "
                f"{expected}; correct the wrong one"
            )


def config_ids(config: Fields, name: str, default: int) -> list[int]:
    """Return the ids that config.json gives a special token: one, or a list."""
    if name not in config:
        return [default]
    if isinstance(config.values[name], list):
        return config.integers(name, 0, 2**31)
    return [config.integer(name, 0, 2**31)]


def answer_end(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
    """Return the ids of "[/Answer]" after the answer's last newline.

    If a newline is an added token, what follows is tokenized as at the start of a text. Otherwise merges may cross the
    newline, and the ids at the start of a text are the best guess.
    """
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    added = tokenizer.get_added_tokens_decoder()
    if len(newline) == 1 and newline[0] in added:
        return tuple(tokenizer.encode(f"\n{ANSWER_END}", add_special_tokens=False).ids[1:])
    return tuple(tokenizer.encode(ANSWER_END, add_special_tokens=False).ids)


def side(settings: Fields, name: str) -> str:
    """Return a side, left or right."""
    if (value := settings.text(name)) not in ("left", "right"):
        raise settings.wrong(name, "left or right")
    return value


def identifier(settings: Fields, name: str) -> str:
    """Return the name of a class."""
    if not (value := settings.text(name, 100)).isidentifier():
        raise settings.wrong(name, "the name of a class")
    return value


def check_token(settings: Fields, name: str) -> None:
    """Check that a setting is a token: a text or an object."""
    if not isinstance(settings.values[name], dict):
        settings.text(name, 100)
        return
    described = settings.fields(name)
    described.text("content", 100)
    for setting in set(described) - {"content", "__type"}:
        described.boolean(setting)


def check_tokens(settings: Fields, name: str) -> None:
    """Check that a setting is a list or an object of tokens."""
    value = settings.values[name]
    if not isinstance(value, dict | list):
        raise settings.wrong(name, "a list of tokens")
    several = value if isinstance(value, dict) else dict(enumerate(value))
    for each in several:
        check_token(Fields({str(each): several[each]}, f"{settings.place}: {name}", settings.artifact), str(each))


KNOWN: Mapping[str, Callable[[Fields, str], object]] = {
    **dict.fromkeys((f"{role}_token" for role in (*SPECIAL_IDS, "cls", "sep")), check_token),
    **dict.fromkeys(("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"), check_tokens),
    **dict.fromkeys(("add_bos_token", "add_eos_token", "add_prefix_space", "legacy"), Fields.boolean),
    **dict.fromkeys(("clean_up_tokenization_spaces", "spaces_between_special_tokens"), Fields.boolean),
    **dict.fromkeys(("padding_side", "truncation_side"), side),
    "model_input_names": partial(Fields.texts, most=100),
    "model_max_length": partial(Fields.number, least=1, most=1e31),  # transformers writes 1e30 for no limit
    "tokenizer_class": identifier,
}
"""The settings of a tokenizer_config.json that a bundle keeps, and what reads each: no templates, no paths, no names of
code, and no padding or truncation of a run."""


def known_settings(settings: Fields) -> dict[str, Any]:
    """Return the settings of a tokenizer_config.json that are known and valid."""
    found: dict[str, Any] = {}
    for name, read_setting in KNOWN.items():
        with contextlib.suppress(CheckpointError):
            if name in settings:
                read_setting(settings, name)
                found[name] = None
    return {name: value for name, value in settings.values.items() if name in found}
