"""What a tokenizer.json does to a text around its model, judged before it does it: none may hang or fill the memory."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

MOST_STEPS = 16
MOST_GROWTH = 64.0
INNER: Mapping[str, str] = MappingProxyType(
    {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
)
# Characters that one can become at most, as Unicode says of its own forms, and of which one can come.
GROWTH: Mapping[str, float] = MappingProxyType(
    {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "ByteLevel": 4}
)
SHRINKAGE: Mapping[str, float] = MappingProxyType(
    {"NFC": 4, "NFKC": 4} | dict.fromkeys(("Strip", "StripAccents", "Whitespace", "WhitespaceSplit"), math.inf)
)
KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
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
    """How texts and tokens are changed before and after the model.

    Attributes:
        prefix: Whether a stretch of text, at the start or after an added token, gets a space of its own: `never`,
            `always`, or `missing` (where it begins with none).
        strips: Whether the decoder takes something off the ends of what it is given.
        shrinkage: Of how many characters of a text one that the model sees can come; infinite where some vanish.
    """

    prefix: str
    strips: bool
    shrinkage: float


def judge(parts: Mapping[str, Any]) -> Pipeline:
    """Judge a tokenizer's `normalizer`, `pre_tokenizer` and `decoder`, each an object of tokenizer.json or None.

    Raises:
        ValueError: A step is of a kind that no bundle has, is a regular expression, which may run for ever, or lets a
            text grow more than `MOST_GROWTH` times; the message says which.
    """
    steps = {part: list(_steps(part, parts.get(part))) for part in KNOWN}
    for part, inner in steps.items():
        if len(inner) > MOST_STEPS:
            raise ValueError(f"its {part} has {len(inner)} steps; {MOST_STEPS} are the most that is allowed")
        growth = math.prod(_growth(part, step) for step in inner)
        if growth > MOST_GROWTH:
            raise ValueError(f"its {part} can make a text {growth:.3g} times longer; {MOST_GROWTH:g} is the most")
    before = steps["normalizer"] + steps["pre_tokenizer"]
    return Pipeline(
        prefix=max(map(_prefix, before), key=("never", "missing", "always").index, default="never"),
        strips=any(map(_strips, steps["decoder"])),
        shrinkage=math.prod(map(_shrinkage, before)),
    )


def state(part: Any) -> Any:
    """Return one of the library's objects as tokenizer.json has it, or None for None."""
    return None if part is None else json.loads(part.__getstate__())


def _steps(part: str, given: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a part, those of sequences in sequences, too."""
    if given is None:
        return
    if given["type"] != "Sequence":
        yield given
        return
    for inner in given[INNER[part]]:
        yield from _steps(part, inner)


def _growth(part: str, step: Mapping[str, Any]) -> float:
    """Return into how many characters a step can make one.

    Raises:
        ValueError: It is of a kind that is not known, or has a pattern that is not allowed.
    """
    kind, pattern = step["type"], step.get("pattern")
    if kind not in KNOWN[part]:
        raise ValueError(f"its {part} has a step {kind}; allowed are {', '.join(KNOWN[part])}")
    if step.get("prepend_scheme") == "first":
        raise ValueError(f'its {part} has prepend_scheme "first"; allowed are "always" and "never"')
    if isinstance(pattern, Mapping):
        if not pattern.get("String"):
            raise ValueError(f"its {part} has a {kind} with a regular expression, or an empty pattern; use a string")
        pattern = pattern["String"]
    if kind == "Replace":
        return max(1.0, len(step["content"]) / len(pattern or " "))
    return 1.0 + len(step["prepend"]) if kind == "Prepend" else GROWTH.get(kind, 1.0)


def _shrinkage(step: Mapping[str, Any]) -> float:
    """Return of how many characters one can come that a step makes."""
    if step["type"] == "Replace":
        content = step["content"]
        return max(1.0, len(step["pattern"]["String"]) / len(content)) if content else math.inf
    return math.inf if step.get("behavior") == "Removed" else SHRINKAGE.get(step["type"], 1.0)


def _prefix(step: Mapping[str, Any]) -> str:
    """Return whether a step puts a space before a stretch of text, as `Pipeline.prefix` says."""
    if step["type"] == "Prepend":
        return "always" if step["prepend"] in {"▁", " "} else "never"
    adds = step.get("prepend_scheme") == "always" or step.get("add_prefix_space") is True
    return "missing" if adds else "never"


def _strips(step: Mapping[str, Any]) -> bool:
    """Return whether a decoder's step takes something off the ends."""
    return step["type"] == "Strip" or step.get("prepend_scheme") == "always"
