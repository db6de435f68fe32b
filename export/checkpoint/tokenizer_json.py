"""tokenizer.json as data: the state of a run that was saved with it, and what only Python reads of it."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

from diffutron_ort.errors import DiffutronWarning
from diffutron_ort.files import Fields
from diffutron_ort_export.checkpoint.messages import listed

MATCHING = ("single_word", "lstrip", "rstrip")
"""Settings of how an added token is found in a text that the JavaScript here refuses."""


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


def warn_of_javascript(specification: Fields) -> None:
    """Say what only Python reads of a tokenizer: how the added tokens that are no control tokens are found."""
    tokens = specification.rows("added_tokens") if "added_tokens" in specification else []
    ordinary = [token.values for token in tokens if token.values.get("special") is False]
    if found := [name for name in MATCHING if any(token.get(name) is True for token in ordinary)]:
        warnings.warn(
            f"{specification.place} has added tokens with {listed(found)}: the bundle is read by Python alone, and "
            "refused by the JavaScript here",
            DiffutronWarning,
            stacklevel=2,
        )
