"""Check the normalizer, pre-tokenizer and decoder of a tokenizer.json before they run.

A file may come from anyone, and some of these components can loop for ever or exhaust the memory on a short text.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

MOST_STEPS = 16  # in a component
MOST_GROWTH = 64.0  # output characters per input character, in a component
NESTED: Mapping[str, str] = MappingProxyType(
    {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
)
# The most output characters per input character, and the reverse, as Unicode states them for its normalization forms.
GROWTH: Mapping[str, float] = MappingProxyType(
    {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "ByteLevel": 4}
)
SHRINKAGE: Mapping[str, float] = MappingProxyType(
    {"NFC": 4, "NFKC": 4} | dict.fromkeys(("Strip", "StripAccents", "Whitespace", "WhitespaceSplit"), math.inf)
)
ALLOWED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "normalizer": ("Replace", "Prepend", *GROWTH, "Strip", "StripAccents"),
        "pre_tokenizer": (
            *("Metaspace", "Split", "ByteLevel", "Digits", "Punctuation", "UnicodeScripts"),
            *("Whitespace", "WhitespaceSplit"),
        ),
        "decoder": ("Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "ByteLevel"),
    }
)


@dataclass(frozen=True)
class Pipeline:
    """How a tokenizer changes text before and after its model.

    Attributes:
        prefix: Whether each stretch of text (at the start, or after an added token) is given a leading space: `never`,
            `always`, or `missing` (only where it does not begin with one).
        strips: Whether the decoder removes characters at the ends of its input.
        shrinkage: The most characters of a text that can become one character of the model's input; infinite if some
            are removed.
    """

    prefix: str
    strips: bool
    shrinkage: float


def check_pipeline(components: Mapping[str, Any]) -> Pipeline:
    """Check a tokenizer's `normalizer`, `pre_tokenizer` and `decoder`, each an object of tokenizer.json or None.

    Raises:
        ValueError: A step has a type that no bundle uses, has a regular expression (which may take exponential time),
            or can make a text more than `MOST_GROWTH` times longer; the message says which.
    """
    steps = {component: list(_steps(component, components.get(component))) for component in ALLOWED}
    for component, inner in steps.items():
        if len(inner) > MOST_STEPS:
            raise ValueError(f"its {component} has {len(inner)} steps; at most {MOST_STEPS} are allowed")
        growth = math.prod(_growth(component, step) for step in inner)
        if growth > MOST_GROWTH:
            raise ValueError(
                f"its {component} can make a text {growth:.3g} times longer; at most {MOST_GROWTH:g} is allowed"
            )
    before = steps["normalizer"] + steps["pre_tokenizer"]
    return Pipeline(
        prefix=max(map(_prefix, before), key=("never", "missing", "always").index, default="never"),
        strips=any(map(_strips, steps["decoder"])),
        shrinkage=math.prod(map(_shrinkage, before)),
    )


def as_json(component: Any) -> Any:
    """Return a loaded component as tokenizer.json spells it; None if there is none."""
    return None if component is None else json.loads(component.__getstate__())


def _steps(component: str, given: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a component, with those of nested sequences."""
    if given is None:
        return
    if given["type"] != "Sequence":
        yield given
        return
    for inner in given[NESTED[component]]:
        yield from _steps(component, inner)


def _growth(component: str, step: Mapping[str, Any]) -> float:
    """Return the most characters that a step can make of one.

    Raises:
        ValueError: The step's type or its pattern is not allowed.
    """
    kind, pattern = step["type"], step.get("pattern")
    if kind not in ALLOWED[component]:
        raise ValueError(f"its {component} has a step {kind}; allowed are {', '.join(ALLOWED[component])}")
    if step.get("prepend_scheme") == "first":
        raise ValueError(f'its {component} has prepend_scheme "first"; allowed are "always" and "never"')
    if isinstance(pattern, Mapping):
        if not pattern.get("String"):
            raise ValueError(
                f"its {component} has a {kind} with a regular expression, or an empty pattern; use a string"
            )
        pattern = pattern["String"]
    if kind == "Replace":
        return max(1.0, len(step["content"]) / len(pattern or " "))
    return 1.0 + len(step["prepend"]) if kind == "Prepend" else GROWTH.get(kind, 1.0)


def _shrinkage(step: Mapping[str, Any]) -> float:
    """Return the most characters that a step can turn into one."""
    if step["type"] == "Replace":
        content = step["content"]
        return max(1.0, len(step["pattern"]["String"]) / len(content)) if content else math.inf
    return math.inf if step.get("behavior") == "Removed" else SHRINKAGE.get(step["type"], 1.0)


def _prefix(step: Mapping[str, Any]) -> str:
    """Return whether a step puts a space before each stretch of text; see `Pipeline.prefix`."""
    if step["type"] == "Prepend":
        return "always" if step["prepend"] in {"▁", " "} else "never"
    adds = step.get("prepend_scheme") == "always" or step.get("add_prefix_space") is True
    return "missing" if adds else "never"


def _strips(step: Mapping[str, Any]) -> bool:
    """Return whether a decoder's step removes characters at the ends of its input."""
    return step["type"] == "Strip" or step.get("prepend_scheme") == "always"
