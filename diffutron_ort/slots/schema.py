"""A flat object of JSON Schema as a template: its properties in order, each with what may stand there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError
from diffutron_ort.slots.bounds import PATTERNS, Bounds
from diffutron_ort.slots.properties import FORMATS, Allowed, allowed, bounds_of, check_keywords
from diffutron_ort.slots.template import MOST_PLACES, Place, Template

OF_AN_OBJECT = frozenset(
    {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id"}
)
MOST_PROPERTIES = 256
MOST_PATTERNS = 8
MOST_RANGES = 16  # that are not short enough to be listed
MOST_BOUNDS = MOST_PLACES  # different ones: each takes time to be made ready


class Member(NamedTuple):
    """A property.

    Attributes:
        text: Its value, if there is only one.
        bounds: Those of its value, if there are several.
    """

    text: str = ""
    bounds: Bounds | None = None


def from_schema(schema: Mapping[str, Any]) -> tuple[Template, dict[str, Bounds]]:
    """Return the template of a flat object, and the bounds of its slots, which have the names of the properties.

    The object has all properties that the schema describes. Values that the schema leaves no choice are given.

    Raises:
        OptionError: It is no flat object, or has a keyword that is not supported here; the message names it.
    """
    check_keywords(schema, OF_AN_OBJECT, "the schema")
    if schema.get("type") != "object":
        raise OptionError(f"type={brief(schema.get('type'))}: the schema must describe an object")
    if schema.get("additionalProperties", False) is not False:
        raise OptionError(
            "additionalProperties must be false, or be left out: an object has the named properties alone"
        )
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise OptionError(f"properties={brief(properties)}: must be an object")
    if len(properties) > MOST_PROPERTIES:
        raise OptionError(f"{len(properties)} properties: at most {MOST_PROPERTIES}")
    _check_required(schema.get("required", []), properties)
    members = {name: _member(_where(name), one) for name, one in _described(properties, schema)}
    return _template(members), {name: one.bounds for name, one in members.items() if one.bounds is not None}


def _template(members: Mapping[str, Member]) -> Template:
    """Return the template of an object with these members."""
    places, text = [], "{"
    for number, (name, member) in enumerate(members.items()):
        text += f"{', ' if number else ''}{json.dumps(name, ensure_ascii=False)}: {member.text}"
        if member.bounds is not None:
            quote = "" if member.bounds.is_bare else '"'
            places.append(Place(name, text + quote, is_quoted=bool(quote)))
            text = quote
    if len(places) > MOST_PLACES:
        raise OptionError(f"properties: {len(places)} of them have values to be found; at most {MOST_PLACES}")
    return Template(tuple(places), text + "}", is_json=True)


def _where(name: str) -> str:
    """Return what errors call a property."""
    return f"properties.{brief(name)}"


def _member(where: str, found: Allowed) -> Member:
    """Return the property that may be this."""
    if found.bounds and not found.values and len(found.bounds) == 1:
        return Member(bounds=found.bounds[0])
    if not found.bounds and len(found.values) == 1:
        return Member(json.dumps(found.values[0], ensure_ascii=False))
    known = [bounds_of(where, "enum", options=found.values)] if found.values else []
    return Member(bounds=bounds_of(where, "anyOf", any_of=[*known, *found.bounds]) if found.bounds else known[0])


def _check_required(required: object, properties: Mapping[str, Any]) -> None:
    if not isinstance(required, Sequence) or isinstance(required, str):
        raise OptionError(f"required={brief(required)}: must be a list of names")
    if unknown := [name for name in required if not isinstance(name, str) or name not in properties]:
        raise OptionError(f"required: {brief(unknown[0])} is not among the properties")


def _described(properties: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, Allowed]]:
    """Yield what each property may be; refuse more expressions than are worth the time that their automata take."""
    different: set[Bounds] = set()
    patterns, named = 0, {*PATTERNS, *FORMATS.values()}
    for name, inner in properties.items():
        found = allowed(_where(name), inner, schema)
        patterns += sum(each.pattern not in named for each in found.bounds)
        different.update(found.bounds)
        ranges = {(each.pattern, each.minimum, each.maximum) for each in different if each.has_range}
        if patterns > MOST_PATTERNS:
            raise OptionError(f"properties: more than {MOST_PATTERNS} have a pattern; leave some out")
        if len(ranges) > MOST_RANGES:
            raise OptionError(f"properties: more than {MOST_RANGES} different ranges of numbers; leave some out")
        if len(different) > MOST_BOUNDS:
            raise OptionError(f"properties: more than {MOST_BOUNDS} different kinds of values; leave some out")
        yield name, found
