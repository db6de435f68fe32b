"""tokenizer.json as data: the state of a run that was saved with it, and what it asks of those who read it."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffutron_ort.errors import CheckpointError, DiffutronWarning
from diffutron_ort.files import Fields

from .apart import apart
from .weights import listed

PIPELINE = ("normalizer", "pre_tokenizer", "decoder")

MOST_GROWTH = 64
"""How many times as long as a text what replacements make of it may be."""

TRIAL = """
import json, sys, tokenizers
content, texts = json.load(sys.stdin)
tokenizer = tokenizers.Tokenizer.from_str(content)
for text in texts:
    tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
print("null")
"""

MATCHING = ("single_word", "lstrip", "rstrip", "normalized")
"""Settings of how an added token is found in a text."""


def at_rest(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without the state of a run: padding, truncation, and merges left out at random.

    Any of it changes the ids of a text. `save_pretrained` writes them as the last call left them.
    """
    rested = {name: None if name in ("padding", "truncation") else value for name, value in specification.items()}
    model = rested.get("model")
    if isinstance(model, dict) and model.get("dropout") is not None:
        rested["model"] = {**model, "dropout": None}
    return rested


def written(specification: Mapping[str, Any]) -> bytes:
    """Return a specification as a file."""
    return json.dumps(specification, ensure_ascii=False, separators=(",", ":")).encode()


def parts(value: object) -> Iterator[Mapping[str, Any]]:
    """Return every object in a value of JSON, and itself if it is one."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parts(inner)


def check_ends(specification: Fields, content: bytes, texts: Sequence[str]) -> None:
    """Refuse a tokenizer that makes too much of a text, or that takes too long for some texts.

    Raises:
        CheckpointError: Its replacements double a text again and again, or a regular expression of it goes astray.
    """
    pipeline = [part for name in PIPELINE for part in parts(specification.values.get(name))]
    if (times := math.prod(map(growth, pipeline))) > MOST_GROWTH:
        raise CheckpointError(
            f"{specification.place}: its replacements make a text {times:.3g} times as long, expected at most "
            f"{MOST_GROWTH} times; take an unaltered copy"
        )
    if any("Regex" in part for part in pipeline):
        try:
            apart(TRIAL, [content.decode(), texts])
        except (TimeoutError, ValueError) as error:
            raise CheckpointError(
                f"{specification.place} is damaged: on a trial it {error}; take an unaltered copy"
            ) from error


def growth(part: Mapping[str, Any]) -> float:
    """Return how many times as long as a text a step of a tokenizer makes it at most."""
    content, pattern = part.get("content"), part.get("pattern")
    if part.get("type") == "Prepend" and isinstance(part.get("prepend"), str):
        return 1 + len(part["prepend"]) / 1000  # once a text
    if not isinstance(content, str) or not isinstance(pattern, dict):
        return 1
    found = pattern.get("String")
    replaced = len(found) if isinstance(found, str) else 0  # an expression can match nothing, everywhere
    return max(1.0, len(content) / replaced if replaced else 1 + len(content))


def warn_of_javascript(specification: Fields) -> None:
    """Say what only Python reads right of a tokenizer."""
    steps = [part.get("type") for part in parts(specification.values.get("normalizer"))]
    back = [part.get("type") for part in parts(specification.values.get("decoder"))]
    found = [f"a {kind} normalizer" for kind in ("Strip",) if kind in steps]
    found += [f"a {kind} decoder" for kind in ("Strip", "Metaspace") if kind in back]
    found += [f"added tokens with {name}" for name in MATCHING if any(is_found_by(name, specification))]
    if found:
        warnings.warn(
            f"{specification.place} has {listed(found)}: the bundle is right in Python, and the JavaScript here "
            "does not read it",
            DiffutronWarning,
            stacklevel=2,
        )


def is_found_by(setting: str, specification: Fields) -> Iterator[bool]:
    """Return of each added token that is no control token whether it has a setting."""
    rows = specification.rows("added_tokens") if "added_tokens" in specification else []
    return (token.values.get(setting) is True and token.values.get("special") is False for token in rows)
