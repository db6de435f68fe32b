"""tokenizer.json as data: removes the state of a run, shortens merges, and warns of what only Python supports."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

from diffutron_ort.errors import DiffutronWarning
from diffutron_ort.files import Fields
from diffutron_ort_export.checkpoint.messages import listed

MATCHING = ("single_word", "lstrip", "rstrip")
"""Settings of how an added token is matched in a text, which the JavaScript package refuses."""

MANY = 2**16
"""The number of merges from which their form is worth a change of the file."""


def without_state(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without the state of a run: padding, truncation, and dropout of merges.

    Each of them changes the ids of a text, and `save_pretrained` writes them as the last call left them.
    """
    found = {name: None if name in ("padding", "truncation") else value for name, value in specification.items()}
    model = found.get("model")
    if isinstance(model, dict) and model.get("dropout") is not None:
        found["model"] = {**model, "dropout": None}
    return found


def with_short_merges(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification whose merges, if they are many, are texts such as "a b" instead of pairs.

    The library takes both. It loads a tree of all values first: for 255,000 merges, texts save 95 MB and a sixth of the
    time. Few merges stay, and so does the file.
    """
    model = specification.get("model")
    merges = model.get("merges") if isinstance(model, dict) else None
    if not isinstance(merges, list) or len(merges) < MANY or not all(map(is_plain, merges)):
        return dict(specification)
    return {**specification, "model": {**specification["model"], "merges": [" ".join(pair) for pair in merges]}}


def is_plain(merge: object) -> bool:
    """Return whether a merge is a pair that its text tells: without a space, and not like the first line of a file."""
    if not (isinstance(merge, list) and len(merge) == 2 and all(isinstance(piece, str) for piece in merge)):
        return False
    return " " not in merge[0] + merge[1] and not merge[0].startswith("#version")


def encoded(specification: Mapping[str, Any]) -> bytes:
    """Return a specification as the bytes of a file."""
    return json.dumps(specification, ensure_ascii=False, separators=(",", ":")).encode()


def warn_of_javascript(specification: Fields) -> None:
    """Warn of settings of added tokens, other than control tokens, that only Python supports."""
    tokens = specification.rows("added_tokens") if "added_tokens" in specification else []
    ordinary = [token.values for token in tokens if token.values.get("special") is False]
    if unsupported := [name for name in MATCHING if any(token.get(name) is True for token in ordinary)]:
        warnings.warn(
            f"{specification.place} has added tokens with {listed(unsupported)}: Python can read the bundle, and the "
            "JavaScript package refuses it",
            DiffutronWarning,
            stacklevel=2,
        )
