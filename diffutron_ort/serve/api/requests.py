"""What a request may hold: its fields, their bounds, and which values of OpenAI's can be taken."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from diffutron_ort.brief import brief
from diffutron_ort.config import MOST_TOKENS, OPTION_NAMES, PRESETS, GenerationConfig, preset_options
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.files import Artifact, parse_object
from diffutron_ort.serve.errors import ApiError

MOST_MESSAGES = 1024
MOST_PARTS = 64  # of a message's content
MOST_CHOICES = 64  # prompts, and choices of a prompt
MOST_STOPS, MOST_STOP = 16, 1000  # stop strings, and characters of one
MOST_IDS = 4096  # in an option that lists token ids
MOST_BEST = 20  # of `top_logprobs`
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a field that is told in a header
MOST_NAMES = 20

Name = Annotated[str, Meta(max_length=200)]
Role = Annotated[str, Meta(max_length=20, description="system (or developer), user or assistant.")]
Choices = Annotated[int, Meta(ge=1, le=MOST_CHOICES)]
Best = Annotated[int, Meta(ge=0, le=MOST_BEST)]
Tokens = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
TokenId = Annotated[int, Meta(ge=0)]


class Part(Struct):
    """A part of a message's content; text is the only type that the model understands."""

    type: Annotated[str, Meta(max_length=50)]
    text: str = ""


Parts = Annotated[list[Part], Meta(max_length=MOST_PARTS)]


class Message(Struct):
    """A message; its name, if it has one, is ignored."""

    role: Role
    content: str | Parts


class StreamOptions(Struct):
    """How a stream ends."""

    include_usage: Annotated[bool, Meta(description="Whether a last chunk tells the usage.")] = False


class Body(Struct, kw_only=True):
    """The fields of every request.

    Attributes:
        OPTIONS: Of a generation, those that are fields, too.
    """

    OPTIONS: ClassVar[frozenset[str]] = OPTION_NAMES

    model: Annotated[Name | None, Meta(description="The name in /v1/models.")] = None
    preset: Annotated[
        Annotated[str, Meta(extra_json_schema={"enum": [*PRESETS]})] | None,
        Meta(description="Several options by one name; those that are sent as well override it."),
    ] = None
    user: Annotated[Annotated[str, Meta(max_length=1000)] | None, Meta(description="Of no effect.")] = None


class Common(Body, kw_only=True):
    """The fields of both kinds of request for text."""

    stream: Annotated[bool, Meta(description="Whether the answer comes in pieces, as server-sent events.")] = False
    stream_options: Annotated[
        StreamOptions | None, Meta(description="With include_usage: true, a stream's last chunk tells the usage.")
    ] = None
    diffusing: Annotated[
        bool, Meta(description="In a stream: each chunk holds the whole text so far, in place of the one before.")
    ] = False
    n: Annotated[Choices, Meta(description="Choices for each prompt; choice i has the seed + i.")] = 1
    max_tokens: Annotated[Tokens | None, Meta(description="Another name of max_new_tokens.")] = None


class ChatRequest(Common, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[
        list[Message], Meta(min_length=1, max_length=MOST_MESSAGES, description="The conversation; the user's is last.")
    ]
    max_completion_tokens: Annotated[Tokens | None, Meta(description="Another name of max_new_tokens.")] = None
    logprobs: Annotated[bool, Meta(description="Whether log-probabilities are wanted.")] = False
    top_logprobs: Annotated[Best | None, Meta(description="How many of the best tokens come with each token.")] = None


Prompts = Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]


class CompletionRequest(Common, kw_only=True):
    """The body of POST /v1/completions."""

    prompt: Annotated[
        str | Prompts,
        Meta(description="Raw text, which is continued; or token ids; or a list of texts and of lists of token ids."),
    ]
    suffix: Annotated[str | None, Meta(description="Text after the completion.")] = None
    logprobs: Annotated[
        Best | None,
        Meta(description="That log-probabilities are wanted, and how many of the best come with each token."),
    ] = None


Request = TypeVar("Request", bound=Body)
Generated = TypeVar("Generated", bound=Common)


class Asked(NamedTuple, Generic[Request]):
    """A request, checked.

    Attributes:
        request: Its fields.
        options: The options of the generation that it sets.
        ignored: The names of fields that have no meaning here.
    """

    request: Request
    options: Mapping[str, Any]
    ignored: Sequence[str]


NEUTRAL: Mapping[str, Sequence[Any]] = MappingProxyType(
    {
        "top_p": (1,),
        "top_k": (0, -1),
        "min_p": (0,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "best_of": (1,),
        "echo": (False,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "audio": (),
        "web_search_options": (),
    }
)
"""The fields of OpenAI's that would change an answer, and the values of each that leave it as it is."""

LENGTHS = ("max_new_tokens", "max_tokens", "max_completion_tokens")  # names of one option
BODY = Artifact(InputError, InputError, "send one JSON object")


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
    _refuse(given)
    known = _names(kind)
    try:
        request = msgspec.convert({name: _plain(given[name]) for name in known & given.keys()}, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ApiError(400, _reason(error), code="invalid_value", param=_place(error)) from error
    options = _options(given, request, most_steps)
    ignored = sorted(given.keys() - known - kind.OPTIONS - NEUTRAL.keys())
    return Asked(request, options, ignored)


@cache
def _names(kind: type[Body]) -> frozenset[str]:
    """Return the names of a kind's own fields."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


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
