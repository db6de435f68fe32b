"""Options of a generation as they are typed and shown in a conversation."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from types import MappingProxyType
from typing import Any

from diffutron_ort.config import GenerationConfig

WORDS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?!\S)|\S+')  # in double quotes as in JSON, or a word
SPECS: Mapping[str, Field[Any]] = MappingProxyType({spec.name: spec for spec in fields(GenerationConfig)})


def named(text: str) -> str:
    """Return the name of an option that may be written as its flag is."""
    return text.lstrip("-").replace("-", "_")


def parsed(name: str, text: str) -> Any:
    """Return the value that a text stands for; a text that stands for none is returned as it is.

    The option's own check then says what is allowed.
    """
    kind = SPECS[name].type if name in SPECS else str
    try:
        return _PARSERS[kind](text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """Return a value as it can be typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(json.dumps(each, ensure_ascii=False) for each in value)
    return str(value)


def choices(name: str) -> tuple[str, ...]:
    """Return the values that an option can have, if they are few."""
    spec = SPECS.get(name)
    if spec is None:
        return ()
    return ("on", "off") if spec.type is bool else spec.metadata["choices"] or ()


def _strings(text: str) -> tuple[str, ...]:
    return tuple(
        json.loads(found) if len(found) > 1 and found[0] == found[-1] == '"' else found
        for found in STRING.findall(text)
    )


def _switch(text: str) -> bool | str:
    return WORDS.get(text.lower(), text)


_PARSERS: Mapping[Any, Callable[[str], Any]] = MappingProxyType(
    {
        int: int,
        float: float,
        bool: _switch,
        str: str,
        tuple[int, ...]: lambda text: tuple(map(int, text.split())),
        tuple[str, ...]: _strings,
    }
)
