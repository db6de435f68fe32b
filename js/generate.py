"""Write what JavaScript shares with Python: options, with their defaults, bounds and presets; graphs; constants.

python js/generate.py
"""

import json
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from diffutron_ort.config import MOST_IDS, MOST_STOP, MOST_STOPS, PRESET_OPTIONS, GenerationConfig
from diffutron_ort.runtime import contract
from diffutron_ort.sampler.random import Stream
from diffutron_ort.sampler.sequence import LIKELY_MISS
from diffutron_ort.text import tokenizer_guard

JS = Path(__file__).parent
HEAD = "/** Generated from {} by `python js/generate.py`: {}. */\n\n"
LARGEST = 2**53 - 1  # integer that a number in JavaScript holds
TYPES: Mapping[Any, str] = {
    int: "integer",
    float: "number",
    bool: "flag",
    str: "choice",
    tuple[int, ...]: "ids",
    tuple[str, ...]: "strings",
}
"""What the checks in `src/config.js` call the type of a field."""
DECLARED = {
    "integer": "number",
    "bigint": "bigint",
    "number": "number",
    "flag": "boolean",
    "ids": "number[]",
    "strings": "string[]",
}


def files() -> dict[Path, str]:
    """Return the text of every generated file."""
    return {
        JS / "src" / "generated" / "options.js": options(),
        JS / "src" / "generated" / "contract.js": graphs(),
        JS / "src" / "generated" / "constants.js": constants(),
        JS / "src" / "generated" / "tokenizer-guard.js": guard(),
        JS / "types" / "options.d.ts": declarations(),
    }


def options() -> str:
    """Return the module with the options and the presets."""
    specs = {spec.name: described(spec) for spec in fields(GenerationConfig)}
    return (
        HEAD.format("diffutron_ort/config.py", "options and presets")
        + f"/** By name, an option's type, default and bounds. */\nexport const OPTIONS = {block(specs)};\n\n"
        + '/** @type {import("../../types/index.js").Presets} by name, what a preset sets */\n'
        + f"export const PRESETS = {block(PRESET_OPTIONS)};\n\n"
        + f"export const MOST_IDS = {MOST_IDS}; // in a list of ids\n"
        + f"export const MOST_STOPS = {MOST_STOPS}; // stop strings\n"
        + f"export const MOST_STOP = {MOST_STOP}; // characters in a stop string\n"
    )


def described(spec: Field[Any]) -> dict[str, Any]:
    """Return an option as the checks in JavaScript read it."""
    bounds = {name: value for name in ("least", "most", "choices") if (value := spec.metadata[name]) is not None}
    or_zero = {"orZero": True} if spec.metadata["or_zero"] else {}
    return {"type": kind(spec), "default": spec.default, **bounds, **or_zero}


def kind(spec: Field[Any]) -> str:
    """Return what the checks in JavaScript call the type of an option."""
    return "bigint" if spec.type is int and spec.metadata["most"] > LARGEST else TYPES[spec.type]


def graphs() -> str:
    """Return the module with the graphs' inputs and outputs."""
    names = ("DENOISER_INPUTS", "DENOISER_OUTPUTS", "GENERATION_INPUTS", "GENERATION_OUTPUTS")
    tables = {name: {one.name: typed(one) for one in getattr(contract, name)} for name in names}
    return (
        HEAD.format("diffutron_ort/runtime/contract.py", "by name, the type and axes of a graph's inputs and outputs")
        + "".join(f"export const {name} = {block(table)};\n\n" for name, table in tables.items())
        + "/** The denoiser's outputs that every pass fetches. */\n"
        + f"export const REDUCTIONS = {literal(contract.REDUCTIONS)};\n"
    )


def typed(value: contract.Value) -> dict[str, Any]:
    """Return the type and the axes of an input or output."""
    return {"dtype": value.dtype, "axes": value.axes, **({"perLayer": True} if value.per_layer else {})}


def constants() -> str:
    """Return the module with the sampler's constants."""
    streams = {stream.name.lower(): int(stream) for stream in Stream}
    return (
        HEAD.format("diffutron_ort/sampler", "constants")
        + "/** What a uniform is drawn for, so that one seed gives each purpose numbers of its own. */\n"
        + f"export const STREAM = {literal(streams)};\n\n"
        + "/** If more draws than this are expected to miss the candidates, the next pass also returns logits. */\n"
        + f"export const LIKELY_MISS = {LIKELY_MISS};\n"
    )


def guard() -> str:
    """Return the module with the steps that a tokenizer.json may have, and their limits."""
    head = HEAD.format("diffutron_ort/text/tokenizer_guard.py", "the steps that a tokenizer may have")
    constants = {name: getattr(tokenizer_guard, name) for name in ("MOST_STEPS", "MOST_GROWTH")}
    tables = {name: getattr(tokenizer_guard, name) for name in ("NESTED", "GROWTH", "SHRINKAGE", "ALLOWED")}
    return (
        head
        + "".join(f"export const {name} = {literal(value)};\n" for name, value in constants.items())
        + "".join(f"\nexport const {name} = {block(table)};\n" for name, table in tables.items())
    )


def declarations() -> str:
    """Return the declaration of the options and of the presets' names."""
    lines = "".join(
        f"  /** {sentence(spec)} */\n  {spec.name}: {declared(spec)};\n" for spec in fields(GenerationConfig)
    )
    return (
        HEAD.format("diffutron_ort/config.py", "the options of one generation")
        + f"export interface Config {{\n{lines}}}\n\n"
        + f"export type PresetName = {' | '.join(map(json.dumps, PRESET_OPTIONS))};\n"
    )


def sentence(spec: Field[Any]) -> str:
    """Return an option's help as a sentence."""
    text = spec.metadata["help"]
    assert "*/" not in text, "it would end the comment"
    return f"{text[0].upper()}{text[1:]}."


def declared(spec: Field[Any]) -> str:
    """Return an option's type in TypeScript."""
    choices = spec.metadata["choices"]
    return " | ".join(map(json.dumps, choices)) if choices else DECLARED[kind(spec)]


def block(table: Mapping[str, Any]) -> str:
    """Return an object with an entry a line."""
    return "{\n" + "".join(f"  {name}: {literal(value)},\n" for name, value in table.items()) + "}"


def literal(value: Any) -> str:
    """Return a value as JavaScript writes it; the integers of an option of type `bigint` are bigints."""
    if isinstance(value, Mapping):
        suffix = "n" if value.get("type") == "bigint" else ""
        items = (f"{name}: {literal(item)}{suffix * (type(item) is int)}" for name, item in value.items())
        return f"{{ {', '.join(items)} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)  # inf: Infinity


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")
