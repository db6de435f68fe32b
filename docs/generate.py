"""Write the tables that documents take from the code: `python -m docs.generate`.

A table stands between `<!-- generated: NAME -->` and `<!-- /generated -->`; a test says when one is stale.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import msgspec

from diffutron_ort.chat import commands as chat_commands
from diffutron_ort.cli.main import COMMANDS
from diffutron_ort.cli.serve import OF_THE_MODEL
from diffutron_ort.config import PRESET_OPTIONS, GenerationConfig
from diffutron_ort.integrations.lm_eval.sources import PHENOMENA, SOURCES, Source
from diffutron_ort.runtime import contract
from diffutron_ort.serve.api.requests import NEUTRAL, ChatRequest, CompletionRequest, DecisionRequest, ScoreRequest
from diffutron_ort.serve.api.responses import Diffusing
from diffutron_ort.serve.settings import Settings, flag
from diffutron_ort.slots.bounds import PATTERNS
from diffutron_ort_export.recipes import RECIPES

FOLDER = Path(__file__).parent
REQUESTS: Mapping[str, type[msgspec.Struct]] = {
    "chat": ChatRequest,
    "completion": CompletionRequest,
    "score": ScoreRequest,
    "systemone": DecisionRequest,
}
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def options() -> str:
    """Return a row for each option: name, default, what is allowed, meaning."""
    rows = (
        (f"`{one.name}`", _value(one.default), _allowed(one), _text(one.metadata["help"]))
        for one in fields(GenerationConfig)
    )
    return _table(("option", "default", "allowed", "meaning"), rows)


def patterns() -> str:
    """Return a row for each pattern of a slot that has a name: name, expression, meaning."""
    shown = {name: "" if len(expression) > 40 else f"`{expression}`" for name, (expression, _) in PATTERNS.items()}
    rows = ((f"`{name}`", shown[name], _text(words)) for name, (_, words) in PATTERNS.items())
    return _table(("pattern", "expression", "meaning"), rows)


def presets() -> str:
    """Return a row for each preset: name, and the options that it sets."""
    rows = (
        (f"`{name}`", ", ".join(f"`{option}={json.dumps(value)}`" for option, value in sets.items()))
        for name, sets in PRESET_OPTIONS.items()
    )
    return _table(("preset", "sets"), rows)


def settings() -> str:
    """Return a row for each setting of a server that is no argument of the model: flag, default, meaning."""
    rows = (
        (f"`--{flag(one)}`", _default(one.default), _text(one.metadata["help"]))
        for one in fields(Settings)
        if one.name not in OF_THE_MODEL
    )
    return _table(("flag", "default", ""), rows)


def commands() -> str:
    """Return a row for each command: name, and what it is for."""
    return _table(("command", "purpose"), ((f"`{name}`", _text(purpose)) for name, purpose in COMMANDS.items()))


def chat() -> str:
    """Return a row for each command of a conversation: how it is written, and what it does."""
    return _table(("command", "what it does"), ((f"`{each.usage}`", each.help) for each in chat_commands.COMMANDS))


def variants() -> str:
    """Return a row for each variant: name, graph, where it runs, how its passes are shared, what it is judged by."""
    rows = (
        (
            f"`{one.name}`",
            f"`{one.graph}`",
            "other programs" if one.third_party else ", ".join(one.providers) or "all providers",
            "–" if one.third_party else "yes" if one.batch_invariant else "no: each sequence has a pass of its own",
            "the error of its logits" if one.exact else "agreement with fp32",
        )
        for one in RECIPES.values()
    )
    return _table(("variant", "graph", "runs on", "batch-invariant", "judged by"), rows)


def values(kind: str, rows: Iterable[contract.Value]) -> str:
    """Return a row for each input or output of a graph: name, type and axes, meaning."""
    cells = (
        (f"`{row.name}{'.i' * row.per_layer}`", f"{row.dtype} [{', '.join(map(str, row.axes))}]", row.meaning)
        for row in rows
    )
    return _table((kind, "type, axes", "meaning"), cells)


def task_rows() -> str:
    """Return a row for each file that tasks read: its name, where it is on the Hub, and the columns of a row."""
    pairs = [f"turblimp_{name}" for name in PHENOMENA]
    rows = [
        (f"`{one.file}`", _hub(one), _columns(one)) for one in SOURCES.values() if one.hub and one.name not in pairs
    ]
    first = SOURCES[pairs[0]]
    every = ", ".join(f"`{name}`" for name in PHENOMENA)
    rows.append(("`turblimp_NAME.jsonl`", f"`{first.hub}`, NAME, `{first.split}`; NAME is {every}", _columns(first)))
    return _table(("file", "on the Hub: data set, subset, split", "columns of a row"), rows)


def _hub(source: Source) -> str:
    return ", ".join(f"`{part}`" for part in (source.hub, source.subset, source.split) if part)


def _columns(source: Source) -> str:
    return ", ".join(f"`{name}`: {column.allowed}" for name, column in source.columns.items())


def request_fields() -> str:
    """Return a row for each field of a request that is no option: name, kind of request, meaning."""
    kinds = {name: _described(kind).items() for name, kind in REQUESTS.items()}
    every = dict.fromkeys(field for found in kinds.values() for field in found)
    rows = ((f"`{one[0]}`", ", ".join(kind for kind, found in kinds.items() if one in found), one[1]) for one in every)
    return _table(("field", "of a", "meaning"), rows)


def neutral_fields() -> str:
    """Return a row for each field of OpenAI's that may only be sent with some values: name, these values."""
    rows = (
        (f"`{name}`", ", ".join(f"`{json.dumps(value)}`" for value in values) or "nothing")
        for name, values in NEUTRAL.items()
    )
    return _table(("field", "taken with"), rows)


def diffusing_fields() -> str:
    """Return a row for each field of a diffusing stream's canvas: name, meaning."""
    return _table(("field", "meaning"), ((f"`{name}`", text) for name, text in _described(Diffusing).items()))


def _described(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """Return the meaning of each field of a type."""
    schema = msgspec.json.schema_components([kind])[1][kind.__name__]
    return {name: _meaning(field) for name, field in schema["properties"].items()}


def _meaning(field: Mapping[str, Any]) -> str:
    """Return the meaning of a field, which may be nested in what it can be."""
    inner = [field, *field.get("anyOf", ())]
    return next((one["description"] for one in inner if "description" in one), "")


def _allowed(option: Field[Any]) -> str:
    """Return what an option may be, in words."""
    least, most, choices = (option.metadata[name] for name in ("least", "most", "choices"))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if isinstance(option.default, bool):
        return "`True`, `False`"
    if option.name == "stop":
        return "strings"
    if isinstance(option.default, tuple):
        return "token ids"
    zero = "0, or " if option.metadata["or_zero"] else ""
    return f"{zero}{_number(least)} to {_number(most)}"


def _number(value: float) -> str:
    """Return a bound as people write it."""
    power = {2**16: "65,536", 2**31 - 1: "2³¹ − 1", 2**64 - 1: "2⁶⁴ − 1"}
    return power.get(value, f"{value:g}")


def _value(value: object) -> str:
    """Return a default for people."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`" if isinstance(value, str | bool) else "none" if value == () else str(value)


def _default(value: object) -> str:
    """Return the default of a flag, if it has one."""
    return "" if value in (None, (), False) else _value(value)


def _text(text: str) -> str:
    """Return words in which Markdown takes no token such as <mask> for HTML."""
    return re.sub(r"<\w+>", r"`\g<0>`", text)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    cells = [list(head), *map(list, rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in cells)


TABLES: Mapping[str, Callable[[], str]] = {
    "options": options,
    "patterns": patterns,
    "presets": presets,
    "commands": commands,
    "settings": settings,
    "chat": chat,
    "variants": variants,
    "task-rows": task_rows,
    "request-fields": request_fields,
    "neutral-fields": neutral_fields,
    "diffusing-fields": diffusing_fields,
    "denoiser-inputs": lambda: values("input", contract.DENOISER_INPUTS),
    "denoiser-outputs": lambda: values("output", contract.DENOISER_OUTPUTS),
    "generation-inputs": lambda: values("input", contract.GENERATION_INPUTS),
    "generation-outputs": lambda: values("output", contract.GENERATION_OUTPUTS),
}


def renewed(text: str) -> str:
    """Return a document with its tables as they are now.

    Raises:
        KeyError: There is no table of that name.
    """
    return PART.sub(lambda part: f"{part[1]}{TABLES[part[2]]()}{part[3]}", text)


def main() -> None:
    """Write the tables into the documents."""
    for path in FOLDER.glob("*.md"):
        text = path.read_text("utf-8")
        if (new := renewed(text)) != text:
            path.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
