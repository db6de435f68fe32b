"""JSON Schemas of what the server reads and writes, made from the types and from the options' bounds."""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from inspect import isclass
from types import MappingProxyType, ModuleType
from typing import Any, TypeAlias

import msgspec

from diffutron_ort.config import GenerationConfig
from diffutron_ort.serve.api import requests, responses
from diffutron_ort.serve.api.requests import (
    MOST_IDS,
    MOST_STOP,
    MOST_STOPS,
    NEUTRAL,
    Body,
    Common,
)
from diffutron_ort.serve.settings import Settings

Schema: TypeAlias = dict[str, Any]
COMPONENTS = "#/components/schemas/"
NOTHING: Schema = {"type": "null"}


def components(settings: Settings) -> Schema:
    """Return the schema of each type by its name, for a server with these settings."""
    types = [*_structs(requests), *_structs(responses)]
    _, found = msgspec.json.schema_components(types, ref_template=f"{COMPONENTS}{{name}}")
    for kind in types:
        if issubclass(kind, Body):
            own = found[kind.__name__]
            own["properties"] = _properties(kind, own["properties"], own["required"], settings)
    return found


def reference(kind: type[msgspec.Struct]) -> Schema:
    """Return the schema that stands for the one of a type."""
    return {"$ref": f"{COMPONENTS}{kind.__name__}"}


def option(spec: Field[Any]) -> Schema:
    """Return the schema of a generation option."""
    return {"description": f"{spec.metadata['help']}.", **_SHAPES[spec.type](spec.metadata)}


def _structs(module: ModuleType) -> list[type[msgspec.Struct]]:
    """Return the types that a module defines."""
    found = [each for each in vars(module).values() if isclass(each) and issubclass(each, msgspec.Struct)]
    return [each for each in found if each.__module__ == module.__name__ and each not in (Body, Common)]


def _properties(kind: type[Body], own: Mapping[str, Schema], required: list[str], settings: Settings) -> Schema:
    """Return the properties of a request: its type's, its options', and those that only one value is taken of."""
    options = {spec.name: option(spec) for spec in fields(GenerationConfig) if spec.name in kind.OPTIONS}
    found = {**_neutral(), **options, **own}
    for name, most in (("steps", settings.max_steps), ("n", settings.max_sequences)):
        if name in found:
            _lower(found[name], most)
    return {name: schema if name in required else _or_null(schema) for name, schema in found.items()}


def _neutral() -> Schema:
    """Return the schemas of OpenAI's fields of which only neutral values are taken."""
    words = "Only these values are supported by this model."
    return {name: {"description": words, "enum": [*values]} if values else NOTHING for name, values in NEUTRAL.items()}


def _lower(schema: Schema, most: int) -> None:
    """Lower the bound of a number."""
    schema["maximum"] = min(schema["maximum"], most)


def _or_null(schema: Schema) -> Schema:
    """Return a schema that also takes null, which stands for a field that is not given."""
    if schema == NOTHING:
        return schema
    outer = {name: schema[name] for name in ("description", "default") if name in schema}
    inner = {name: schema[name] for name in schema if name not in outer}
    choices = [choice for choice in inner.get("anyOf", [inner]) if choice != NOTHING]
    return outer | {"anyOf": [*choices, NOTHING]}


def _number(kind: str) -> Callable[[Mapping[str, Any]], Schema]:
    def shape(allowed: Mapping[str, Any]) -> Schema:
        bounded = {"type": kind, "minimum": allowed["least"], "maximum": allowed["most"]}
        return {"anyOf": [bounded, {"const": 0}]} if allowed["or_zero"] else bounded

    return shape


def _ids(allowed: Mapping[str, Any]) -> Schema:
    return {"type": "array", "items": _number("integer")(allowed), "maxItems": MOST_IDS}


def _strings(_: Mapping[str, Any]) -> Schema:
    string = {"type": "string", "minLength": 1, "maxLength": MOST_STOP}
    return {"anyOf": [string, {"type": "array", "items": string, "maxItems": MOST_STOPS}]}


_SHAPES: Mapping[Any, Callable[[Mapping[str, Any]], Schema]] = MappingProxyType(
    {
        int: _number("integer"),
        float: _number("number"),
        bool: lambda _: {"type": "boolean"},
        str: lambda allowed: {"type": "string", "enum": [*allowed["choices"]]},
        tuple[int, ...]: _ids,
        tuple[str, ...]: _strings,
    }
)
"""The schema for each type of option, from its metadata."""
