"""What a property of a JSON Schema may be: values that are known, and bounds of others."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError
from diffutron_ort.slots.bounds import (
    DATE,
    MOST_LETTERS,
    MOST_OPTION,
    MOST_OPTIONS,
    MOST_TOKENS,
    MOST_WAYS,
    Bounds,
    Value,
    checked,
)
from diffutron_ort.slots.ranges import MOST_DIGITS, Number, decimals, exact

Schema = Mapping[str, Any]

NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"})
"""Keywords that do not say what is valid."""

ENDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
        "integer": ENDS,
        "number": ENDS,
        "boolean": frozenset(),
        "null": frozenset(),
    }
)
"""What a property can say, by its type, besides `enum` and `const`."""

CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
FORMATS: Mapping[str, str] = MappingProxyType({"date": "date", "time": CLOCK, "date-time": f"({DATE})T{CLOCK}"})
"""The pattern of each `format` of strings; times are in UTC."""

TOKENS = 16  # the most of a string, unless it must have more characters
MOST_LENGTH = 2**31
MOST_DEPTH = 8  # of `$ref` and `anyOf` within each other
MOST_TYPES = 7  # as many as there are in JSON Schema


class Allowed(NamedTuple):
    """What a property may be.

    Attributes:
        values: One of these.
        bounds: Or what keeps any of these.
    """

    values: Sequence[Value]
    bounds: Sequence[Bounds]


def check_keywords(schema: Schema, known: frozenset[str], where: str) -> None:
    """Refuse a keyword that would not be heeded.

    Raises:
        OptionError: There is one.
    """
    if unknown := [keyword for keyword in schema if keyword not in known | NOTES]:
        raise OptionError(
            f"{where}: the keyword {brief(unknown[0])} is not supported here; there are {', '.join(sorted(known))}"
        )


def allowed(where: str, schema: object, definitions: Schema) -> Allowed:
    """Return what a property may be.

    Args:
        where: What errors call it.
        schema: Describes it.
        definitions: The whole schema, whose `$defs` a `$ref` names.

    Raises:
        OptionError: It is not supported; the message names the keyword.
    """
    ways = list(islice(_ways(where, schema, definitions, 0), MOST_WAYS + 1))
    if len(ways) > MOST_WAYS:
        raise OptionError(f"{where}: anyOf: more than {MOST_WAYS} kinds of values; leave some out")
    values: dict[str, Value] = {}
    bounds: list[Bounds] = []
    for way in ways:
        found = _of_one_kind(where, way)
        if isinstance(found, Bounds):
            bounds.append(found)
        else:
            values |= {json.dumps(value): value for value in found}
    return Allowed(list(values.values()), bounds)


def _ways(where: str, schema: object, definitions: Schema, depth: int) -> Iterator[Schema]:
    """Yield the schemas of the kinds of values that a property can have, each without a reference."""
    if depth > MOST_DEPTH:
        raise OptionError(f"{where}: $ref and anyOf lead more than {MOST_DEPTH} deep, or in a circle")
    if not isinstance(schema, Mapping):
        raise OptionError(f"{where}: must be an object that describes a value")
    for keyword in ("$ref", "anyOf", "allOf"):
        if keyword in schema:
            check_keywords(schema, frozenset({keyword}), where)
            for inner in _inner(where, keyword, schema[keyword], definitions):
                yield from _ways(where, inner, definitions, depth + 1)
            return
    if isinstance(schema.get("type"), list) and not schema.keys() & {"enum", "const"}:
        yield from _by_type(where, schema)
    else:
        yield schema


def _inner(where: str, keyword: str, value: object, definitions: Schema) -> Sequence[object]:
    """Return the schemas that a keyword leads to."""
    if keyword == "$ref":
        return [_definition(where, value, definitions)]
    if not isinstance(value, list) or not value:
        raise OptionError(f"{where}: {keyword}={brief(value)}: must be a list of at least one schema")
    if keyword == "allOf" and len(value) > 1:
        raise OptionError(f"{where}: allOf of {len(value)} schemas is not supported here; write them as one")
    return value


def _definition(where: str, reference: object, definitions: Schema) -> object:
    """Return what a `$ref` names."""
    _, _, place = reference.partition("#/") if isinstance(reference, str) else ("", "", "")
    group, _, name = place.partition("/")
    found = definitions.get(group) if group in ("$defs", "definitions") else None
    if not isinstance(found, Mapping) or name not in found:
        raise OptionError(f"{where}: $ref={brief(reference)}: there is no such definition")
    return found[name]


def _by_type(where: str, schema: Schema) -> Iterator[Schema]:
    """Yield a schema for each of several types, with the keywords that concern it."""
    kinds = [kind for kind in _types(where, schema) if _is_kind(where, kind)]
    check_keywords(schema, frozenset({"type"}).union(*(KEYWORDS[kind] for kind in kinds)), where)
    for kind in kinds:
        yield {"type": kind, **{keyword: schema[keyword] for keyword in KEYWORDS[kind] & schema.keys()}}


def _types(where: str, schema: Schema) -> list[Any]:
    """Return the types of a schema."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not 1 <= len(kinds) <= MOST_TYPES:
        raise OptionError(f"{where}: type={brief(kinds)}: must be a type, or a list of 1 to {MOST_TYPES} types")
    return kinds


def _is_kind(where: str, kind: object) -> bool:
    """Return whether it is a type that is supported here.

    Raises:
        OptionError: It is not.
    """
    if not isinstance(kind, str) or kind not in KEYWORDS:
        raise OptionError(
            f"{where}: type={brief(kind)} is not supported here; give an enum, or the type {', '.join(KEYWORDS)}"
        )
    return True


def _of_one_kind(where: str, schema: Schema) -> Sequence[Value] | Bounds:
    """Return the values or the bounds of a schema without a reference."""
    if "const" in schema or "enum" in schema:
        check_keywords(schema, frozenset({"type", "const", "enum"}), where)
        return _listed(where, schema)
    if "type" not in schema:
        check_keywords(schema, frozenset({"type", "enum", "const", "anyOf", "$ref"}), where)
    kind = schema.get("type")
    _is_kind(where, kind)
    check_keywords(schema, KEYWORDS[str(kind)] | {"type"}, where)
    match kind:
        case "string":
            return _string(where, schema)
        case "boolean":
            return [True, False]
        case "null":
            return [None]
    return _number(where, schema, str(kind))


def _listed(where: str, schema: Schema) -> list[Value]:
    """Return the values of `const`, or those of `enum`, that are of the type."""
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_OPTIONS:
        raise OptionError(f"{where}: enum={brief(values)}: must be a list of 1 to {MOST_OPTIONS} values")
    if "type" in schema:
        kinds = _types(where, schema)
        values = [value for value in values if any(_is_of(value, kind) for kind in kinds)]
    for value in [*values, schema.get("const")]:
        _check_value(where, value)
    written = {json.dumps(value): value for value in values}
    if len(written) < len(values):
        raise OptionError(f"{where}: enum={brief(values)}: one value stands there twice")
    if "const" in schema:
        const = json.dumps(schema["const"])
        values = [written[const]] if const in written else []
    if not values:
        raise OptionError(f"{where}: its enum, const and type leave no value")
    return values


def _check_value(where: str, value: object) -> None:
    """Refuse a value that is not flat, or is too long."""
    if not (value is None or isinstance(value, str | int | float)):
        raise OptionError(f"{where}: its enum or const holds an object or a list; only flat objects are supported here")
    if isinstance(value, str) and len(value) > MOST_OPTION:
        raise OptionError(f"{where}: its enum or const holds {brief(value)}: at most {MOST_OPTION} characters")


def _is_of(value: object, kind: object) -> bool:
    """Return whether a value is of a type."""
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


def _string(where: str, schema: Schema) -> Sequence[Value] | Bounds:
    """Return the bounds of a string."""
    least, most = (_length(where, schema, keyword) for keyword in ("minLength", "maxLength"))
    if most == 0 and not least:
        return [""]
    bounds: dict[str, Any] = {"pattern": _pattern(where, schema)}
    if bounds["pattern"] == "text":
        bounds["most"] = min(MOST_TOKENS, max(TOKENS, least or 0))
    if least:
        bounds["least_characters"] = least
    if most is not None:
        bounds["most_characters"] = min(most, MOST_LETTERS)
    return bounds_of(where, "minLength, maxLength or pattern", **bounds)


def _length(where: str, schema: Schema, keyword: str) -> int | None:
    value = schema.get(keyword)
    if value is None and keyword not in schema:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_LENGTH:
        raise OptionError(f"{where}: {keyword}={brief(value)}: must be an integer from 0 on")
    return value


def _pattern(where: str, schema: Schema) -> str:
    """Return the pattern of a string."""
    if "format" in schema:
        name = schema["format"]
        if not isinstance(name, str) or name not in FORMATS or "pattern" in schema:
            known = ", ".join(FORMATS)
            raise OptionError(f"{where}: format={brief(name)}: only {known} are supported, without pattern")
        return FORMATS[name]
    if "pattern" not in schema:
        return "text"
    pattern = schema["pattern"]
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        raise OptionError(f"{where}: pattern={brief(pattern)}: must begin with ^ and end with $, for the whole text")
    return pattern


def _number(where: str, schema: Schema, kind: str) -> Sequence[Value] | Bounds:
    """Return the bounds of a number; of integers in a short range, all of them."""
    ends = {keyword: _end(where, keyword, schema[keyword]) for keyword in sorted(ENDS & schema.keys())}
    if not ends:
        return Bounds(pattern=kind)
    try:
        places = 0 if kind == "integer" else decimals(list(ends.values()))
        low, high = _least(ends, places), _most(ends, places)
        if kind == "integer" and low is not None and high is not None and 0 <= high - low < MOST_OPTIONS:
            return list(range(int(low), int(high) + 1))
        return checked(where, {"pattern": kind, "minimum": low, "maximum": high})
    except OptionError as error:
        given = ", ".join(f"{keyword}={brief(schema[keyword])}" for keyword in ends)
        raise OptionError(f"{where}: {given}: {str(error).rpartition(': ')[2]}") from error


def _end(where: str, keyword: str, value: object) -> Number:
    """Return an end of a range."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < 10**MOST_DIGITS:  # type: ignore[arg-type]
        raise OptionError(f"{where}: {keyword}={brief(value)}: must be a number of up to {MOST_DIGITS} digits")
    return value  # type: ignore[return-value]


def _least(ends: Mapping[str, Number], places: int) -> Number | None:
    """Return the least number with so many decimals that the lower ends allow; None if there is no such end."""
    unit, found = 10**places, []
    if "minimum" in ends:
        found.append(math.ceil(exact(ends["minimum"]) * unit))
    if "exclusiveMinimum" in ends:
        found.append(math.floor(exact(ends["exclusiveMinimum"]) * unit) + 1)
    return _number_of(max(found), unit) if found else None


def _most(ends: Mapping[str, Number], places: int) -> Number | None:
    """Return the greatest number with so many decimals that the upper ends allow; None if there is no such end."""
    unit, found = 10**places, []
    if "maximum" in ends:
        found.append(math.floor(exact(ends["maximum"]) * unit))
    if "exclusiveMaximum" in ends:
        found.append(math.ceil(exact(ends["exclusiveMaximum"]) * unit) - 1)
    return _number_of(min(found), unit) if found else None


def _number_of(count: int, unit: int) -> Number:
    return count // unit if count % unit == 0 else float(Fraction(count, unit))


def bounds_of(where: str, keyword: str, **given: Any) -> Bounds:
    """Return bounds; an error names the keyword that they come from.

    Raises:
        OptionError: They are not allowed.
    """
    try:
        return checked(where, given)
    except OptionError as error:
        raise OptionError(f"{where}: {keyword}: {str(error).partition(': ')[2]}") from error
