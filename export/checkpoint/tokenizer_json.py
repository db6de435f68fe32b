"""tokenizer.json as data: removes the state of a run, and warns of settings that only Python supports."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

from diffutron_ort.errors import DiffutronWarning
from diffutron_ort.files import Fields
from diffutron_ort_export.checkpoint.messages import listed

MATCHING = ("single_word", "lstrip", "rstrip")
"""Settings of how an added token is matched in a text, which the JavaScript package refuses."""


def without_state(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without the state of a run: padding, truncation, and dropout of merges.

    Each of them changes the ids of a text, and `save_pretrained` writes them as the last call left them.
    """
    found = {name: None if name in ("padding", "truncation") else value for name, value in specification.items()}
    model = found.get("model")
    if isinstance(model, dict) and model.get("dropout") is not None:
        found["model"] = {**model, "dropout": None}
    return found


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
