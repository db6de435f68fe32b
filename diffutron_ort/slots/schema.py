"""A flat object of JSON Schema as a template: its properties in order, each with what may stand there."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError
from diffutron_ort.slots.bounds import MOST_LETTERS, MOST_OPTIONS, MOST_TOKENS, Bounds, Value, checked
from diffutron_ort.slots.template import MOST_PLACES, Place, Template

NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"})
"""Keywords that do not say what is valid."""

OF_AN_OBJECT = frozenset(
    {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id"}
)
KEYWORDS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum"}),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
"""What a property can say, by its type, besides `enum` and `const`."""

MOST_PATTERNS = 8
TOKENS = 16  # the most of a string, unless it must have more characters
MOST_LENGTH = 2**31


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
    _check_keywords(schema, OF_AN_OBJECT, "the schema")
    if schema.get("type") != "object":
        raise OptionError(f"type={brief(schema.get('type'))}: the schema must describe an object")
    if schema.get("additionalProperties", False) is not False:
        raise OptionError(
            "additionalProperties must be false, or be left out: an object has the named properties alone"
        )
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise OptionError(f"properties={brief(properties)}: must be an object")
    _check_required(schema.get("required", []), properties)
    resolved = {name: _resolved(schema, name, inner) for name, inner in properties.items()}
    _check_patterns(resolved)
    members = {name: _member(name, inner) for name, inner in resolved.items()}
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


def _check_keywords(schema: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse a keyword that would not be heeded."""
    if unknown := [keyword for keyword in schema if keyword not in known | NOTES]:
        raise OptionError(
            f"{where}: the keyword {brief(unknown[0])} is not supported here; there are {', '.join(sorted(known))}"
        )


def _check_required(required: object, properties: Mapping[str, Any]) -> None:
    if not isinstance(required, Sequence) or isinstance(required, str):
        raise OptionError(f"required={brief(required)}: must be a list of names")
    if unknown := [name for name in required if not isinstance(name, str) or name not in properties]:
        raise OptionError(f"required: {brief(unknown[0])} is not among the properties")


def _check_patterns(properties: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse more expressions than are worth the time that their automata take."""
    if sum("pattern" in inner for inner in properties.values()) > MOST_PATTERNS:
        raise OptionError(f"properties: more than {MOST_PATTERNS} have a pattern; leave some out")


def _resolved(schema: Mapping[str, Any], name: str, inner: object) -> Mapping[str, Any]:
    """Return the schema of a property, which may stand among the definitions."""
    if isinstance(inner, Mapping) and "$ref" in inner:
        _check_keywords(inner, frozenset({"$ref"}), f"properties.{brief(name)}")
        reference = inner["$ref"]
        _, _, place = reference.partition("#/") if isinstance(reference, str) else ("", "", "")
        group, _, key = place.partition("/")
        found = schema.get(group) if group in ("$defs", "definitions") else None
        inner = found.get(key) if isinstance(found, Mapping) else None
        if inner is None:
            raise OptionError(f"properties.{brief(name)}: $ref={brief(reference)}: there is no such definition")
    if not isinstance(inner, Mapping):
        raise OptionError(f"properties.{brief(name)}: must be an object that describes a value")
    return inner


def _member(name: str, schema: Mapping[str, Any]) -> Member:
    """Return what may stand in a property."""
    where, kind = f"properties.{brief(name)}", schema.get("type")
    if "const" in schema or "enum" in schema:
        _check_keywords(schema, frozenset({"type", "const", "enum"}), where)
        return _one_of(where, _listed(where, schema))
    if not isinstance(kind, str) or kind not in KEYWORDS:
        unknown = [keyword for keyword in schema if keyword not in {"type"} | NOTES]
        found = f"type={brief(kind)}" if kind is not None or not unknown else f"the keyword {brief(unknown[0])}"
        raise OptionError(f"{where}: {found} is not supported here; give an enum, or the type {', '.join(KEYWORDS)}")
    _check_keywords(schema, KEYWORDS[kind] | {"type"}, where)
    match kind:
        case "string":
            return _string(where, schema)
        case "boolean":
            return _one_of(where, [True, False])
        case "null":
            return Member("null")
    return _integer(where, schema) if schema.keys() & {"minimum", "maximum"} else Member(bounds=Bounds(pattern=kind))


def _listed(where: str, schema: Mapping[str, Any]) -> list[Value]:
    """Return the values of `const`, or those of `enum`, that are of the type."""
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list) or not values:
        raise OptionError(f"{where}: enum={brief(values)}: must be a list of at least one value")
    if "const" in schema:
        values = [value for value in values if json.dumps(value) == json.dumps(schema["const"])]
    if "type" in schema:
        values = [value for value in values if _is_of(value, schema["type"])]
    if not values:
        raise OptionError(f"{where}: its enum, const and type leave no value")
    return values


def _is_of(value: object, kind: object) -> bool:
    match value:
        case bool():
            return kind == "boolean"
        case str():
            return kind == "string"
        case None:
            return kind == "null"
        case int():
            return kind in ("integer", "number")
        case float():
            return kind == "number" or (kind == "integer" and value.is_integer())
    return False


def _one_of(where: str, values: Sequence[Value]) -> Member:
    """Return the member that has one of some values."""
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        raise OptionError(f"{where}: its enum or const holds an object or a list; only flat objects are supported here")
    if len(values) == 1:
        return Member(json.dumps(values[0], ensure_ascii=False))
    return Member(bounds=_bounds(where, "enum", options=list(values)))


def _string(where: str, schema: Mapping[str, Any]) -> Member:
    """Return the member that is a string."""
    least, most = (_length(where, schema, keyword) for keyword in ("minLength", "maxLength"))
    if most == 0 and not least:
        return Member('""')
    bounds: dict[str, Any] = {"pattern": _pattern(where, schema)}
    if bounds["pattern"] == "text":
        bounds["most"] = min(MOST_TOKENS, max(TOKENS, least or 0))
    if least:
        bounds["least_characters"] = least
    if most is not None:
        bounds["most_characters"] = min(most, MOST_LETTERS)
    return Member(bounds=_bounds(where, "minLength, maxLength or pattern", **bounds))


def _length(where: str, schema: Mapping[str, Any], keyword: str) -> int | None:
    value = schema.get(keyword)
    if value is None and keyword not in schema:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_LENGTH:
        raise OptionError(f"{where}: {keyword}={brief(value)}: must be an integer from 0 on")
    return value


def _pattern(where: str, schema: Mapping[str, Any]) -> str:
    """Return the pattern of a string."""
    if "format" in schema:
        if schema["format"] != "date" or "pattern" in schema:
            raise OptionError(f"{where}: format={brief(schema['format'])}: only date is supported, without pattern")
        return "date"
    if "pattern" not in schema:
        return "text"
    pattern = schema["pattern"]
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        raise OptionError(f"{where}: pattern={brief(pattern)}: must begin with ^ and end with $, for the whole text")
    return pattern


def _integer(where: str, schema: Mapping[str, Any]) -> Member:
    """Return the member that is an integer of a range."""
    ends = [schema.get(keyword) for keyword in ("minimum", "maximum")]
    low, high = (int(end) if isinstance(end, float) and end.is_integer() else end for end in ends)
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= high - low < MOST_OPTIONS):
        raise OptionError(
            f"{where}: minimum={brief(low)} and maximum={brief(high)}: must both be there, with 1 to {MOST_OPTIONS} "
            "integers from the one to the other"
        )
    return _one_of(where, list(range(low, high + 1)))


def _bounds(where: str, keyword: str, **given: Any) -> Bounds:
    """Return bounds; an error names the keyword that they come from."""
    try:
        return checked(where, given)
    except OptionError as error:
        raise OptionError(f"{where}: {keyword}: {str(error).partition(': ')[2]}") from error
