"""/openapi.json: that it says of requests what their parser does."""

import json

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from diffutron_ort.serve.api.openapi import document
from diffutron_ort.serve.api.parsing import parse
from diffutron_ort.serve.api.requests import NEUTRAL, ChatRequest, CompletionRequest, DecisionRequest, ScoreRequest
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings

SETTINGS = Settings(max_steps=100, api_keys="secret")
DOCUMENT = document(SETTINGS)
REQUESTS = {
    ChatRequest: {"messages": [{"role": "user", "content": "Merhaba"}]},
    CompletionRequest: {"prompt": "Merhaba"},
    ScoreRequest: {"text": "Merhaba"},
    DecisionRequest: {"state": "Merhaba", "questions": {"selam": {"type": "noul"}}},
}
QUESTIONS = (
    {"type": "noul", "instructions": {"selam": 1}, "criteria": {"true": ["x"], "false": None}},
    {"type": "noul", "criteria": "x"},
    {"type": "choice", "criteria": {"x": None, "y": "z"}},
    {"type": "choice", "criteria": {}},
    {"type": "choice", "criteria": {str(n): None for n in range(256)}},
    {"type": "choice"},
    {"type": "score", "criteria": ["x", {}]},
    {"type": "score", "criteria": []},
    {"type": "score", "criteria": ["x", 1]},
    {"type": "score", "criteria": {"x": None}, "instructions": 1},
    {"type": "box"},
    {},
)
USUAL = (
    None,
    True,
    False,
    "",
    "text",
    0,
    1,
    -1,
    2.5,
    1e30,
    [],
    {},
    [[]],
    [{}],
    [1.5],
    [True],
    ["text", 7],
    {"type": "text"},
)


def schema(kind):
    return DOCUMENT["components"]["schemas"][kind.__name__]


def resolved(inner):
    return DOCUMENT["components"]["schemas"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner


def around(inner):
    """Yield values at the bounds of a schema, and just beyond them."""
    inner = resolved(inner)
    for choice in inner.get("anyOf", ()):
        yield from around(choice)
    yield from inner.get("enum", ())
    for bound, step in (("minimum", -1), ("maximum", 1)):
        if bound in inner:
            yield from (inner[bound], inner[bound] + step, float(inner[bound]))
    lengths = [
        inner[bound] + step for bound, step in (("maxLength", 1), ("maxItems", 1)) if bound in inner for step in (0, 1)
    ]
    yield from ("x" * length for length in lengths if inner.get("type") == "string")
    if inner.get("type") == "array":
        items = list(around(inner.get("items", {}))) or ["text"]
        yield from ([item] for item in items)
        yield from ([items[0]] * length for length in lengths)
    if inner.get("type") == "object":
        for name, part in inner.get("properties", {}).items():
            yield from (
                {"role": "user", "content": "", "type": "text", name: value} for value in (*around(part), *USUAL)
            )


def is_accepted(kind, name, value):
    body = json.dumps({**REQUESTS[kind], name: value}).encode()
    try:
        asked = parse(body, kind, SETTINGS.max_steps)
    except ApiError as error:
        return (error.status, (error.param or "").partition("[")[0].partition(".")[0]) != (400, name)
    return name not in asked.ignored


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in REQUESTS for name in schema(kind)["properties"]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_parser_takes_what_the_document_allows_and_nothing_else(kind, name):
    own = schema(kind)
    validator = Draft202012Validator({"components": DOCUMENT["components"], **own})
    more = [{"selam": question} for question in QUESTIONS] if name == "questions" else []
    for value in (*around(own["properties"][name]), *USUAL, *more):
        assert is_accepted(kind, name, value) == validator.is_valid({**REQUESTS[kind], name: value}), value


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_field_that_has_a_meaning_is_in_the_document(kind):
    known = {field.encode_name for field in msgspec.structs.fields(kind)} | kind.OPTIONS | NEUTRAL.keys()
    assert schema(kind)["properties"].keys() == known


def test_the_document_is_valid():
    validate(DOCUMENT)
