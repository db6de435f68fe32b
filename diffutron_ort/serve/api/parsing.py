"""Parse the body of a request, and check all that can be checked without the model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import msgspec

from diffutron_ort.brief import brief
from diffutron_ort.config import GenerationConfig, preset_options
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.files import Artifact, parse_object
from diffutron_ort.serve.api.requests import MOST_IDS, MOST_STOP, MOST_STOPS, NEUTRAL, Asked, Body, Request, names_of
from diffutron_ort.serve.errors import ApiError

LENGTHS = ("max_new_tokens", "max_tokens", "max_completion_tokens")  # names of one option
BODY = Artifact(InputError, InputError, "send one JSON object")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a field that is told in a header
MOST_NAMES = 20
HINTS: Mapping[str, str] = {
    "response_format.type": "; this model takes text, or json_schema with the properties of a flat object"
}
"""What to send instead, by the place of an error."""


def parse(body: bytes, kind: type[Request], most_steps: int) -> Asked[Request]:
    """Return the request in a body.

    Args:
        body: JSON in UTF-8, without a key twice, a number that is not finite or a lone surrogate.
        kind: What is asked for.
        most_steps: That a generation may take.

    Raises:
        ApiError: A field is missing, unknown in a way that matters, or out of bounds.
    """
    given = {name: value for name, value in _parsed(body).items() if value is not None}
    known = names_of(kind)
    _refuse({name: value for name, value in given.items() if name not in known})
    try:
        request = msgspec.convert({name: _plain(given[name]) for name in known & given.keys()}, kind, strict=True)
    except msgspec.ValidationError as error:
        place = _place(error)
        raise ApiError(400, _reason(error) + HINTS.get(place or "", ""), code="invalid_value", param=place) from error
    options = _options(given, request, most_steps)
    ignored = given.keys() - known - kind.OPTIONS - NEUTRAL.keys()
    return Asked(request, options, sorted(ignored | request.unknown_within(given)))


def header(ignored: Sequence[str]) -> dict[str, str]:
    """Return the header that tells which fields were ignored; names that no header can hold are left out."""
    names = [name for name in ignored if NAME.fullmatch(name)][:MOST_NAMES]
    return {"x-ignored": ", ".join(names)} if names else {}


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(body, "the body", BODY).values
    except InputError as error:
        raise ApiError(400, str(error), code="invalid_json") from error


def _refuse(given: Mapping[str, Any]) -> None:
    """Refuse a field that asks for what this model cannot do."""
    for name, values in NEUTRAL.items():
        if name in given and not any(_is_same(given[name], value) for value in values):
            allowed = f"only {' or '.join(map(repr, values))} is" if values else "it is not"
            message = f"{name}={brief(given[name])}: {allowed} supported by this model"
            raise ApiError(400, message, code="unsupported_value", param=name)


def _is_same(given: object, value: object) -> bool:
    """Return whether two values of JSON are the same; in Python, 1 is True as well."""
    return given == value and isinstance(given, bool) == isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Return a value with 64 in place of 64.0: JSON has one type of number."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain(item) for item in value]
    return value


def _options(given: Mapping[str, Any], request: Body, most_steps: int) -> dict[str, Any]:
    """Return the options of a request, each checked by itself."""
    options = {name: _checked(name, given[name]) for name in request.OPTIONS & given.keys()}
    _bound(options, most_steps)
    if request.preset is not None:
        with _named("preset"):
            preset_options(request.preset)
    return options | _length(options, request)


def _length(options: Mapping[str, Any], request: Body) -> dict[str, int]:
    """Return the one option that a request may set under several names."""
    given = {name: options.get(name, getattr(request, name, None)) for name in LENGTHS}
    lengths = {name: value for name, value in given.items() if value is not None}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name}={brief(value)}" for name, value in lengths.items())
        raise ApiError(400, f"{said}: these are names of one option; give one of them", param=next(iter(lengths)))
    if not lengths:
        return {}
    name, value = next(iter(lengths.items()))
    return {LENGTHS[0]: _checked(LENGTHS[0], value, name)}


def _checked(option: str, value: Any, name: str | None = None) -> Any:
    """Return the value of an option as `GenerationConfig` has it; an error names the field that it was given as."""
    with _named(name or option):
        return getattr(GenerationConfig(**{option: value}), option)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn the error of an option into an answer that names it."""
    try:
        yield
    except OptionError as error:
        raise ApiError(400, str(error), code="invalid_value", param=name) from error


def _bound(options: Mapping[str, Any], most_steps: int) -> None:
    """Refuse options that would take more work than a server does for one request."""
    steps, stop = options.get("steps", 0), options.get("stop", ())
    if steps > most_steps:
        raise ApiError(400, f"steps={steps}: at most {most_steps}", code="invalid_value", param="steps")
    if len(stop) > MOST_STOPS or any(len(string) > MOST_STOP for string in stop):
        message = f"stop: at most {MOST_STOPS} strings of at most {MOST_STOP} characters"
        raise ApiError(400, message, code="invalid_value", param="stop")
    for name in LISTS:
        if len(ids := options.get(name, ())) > MOST_IDS:
            raise ApiError(400, f"{name} holds {len(ids)} ids: at most {MOST_IDS}", code="invalid_value", param=name)


LISTS = tuple(spec.name for spec in fields(GenerationConfig) if spec.type == tuple[int, ...])


def _place(error: msgspec.ValidationError) -> str | None:
    """Return the field that an error of msgspec names: its message ends with `at `$.field``."""
    found = re.search(r"`\$\.?([^`]*)`$", str(error))
    missing = re.search(r"missing required field `(\w+)`", str(error))
    inner = found[1] if found else ""
    return ".".join(filter(None, (inner, missing[1] if missing else ""))) or None


def _reason(error: msgspec.ValidationError) -> str:
    """Return the message of an error of msgspec, in the words of ours."""
    return str(error).replace("`$.", "`").replace(" - at `$`", "")
