"""Chats whose answers keep to a JSON Schema."""

import json

import jsonschema
import pytest

from diffutron_ort.templates import Templates
from tests.serve.serving import CHAT, events, post

# As pydantic describes a class with these fields, and OpenAI's client makes it strict.
PERSON = {
    "$defs": {"Color": {"enum": ["kırmızı", "mavi"], "title": "Color", "type": "string"}},
    "additionalProperties": False,
    "description": "Bir kişi.",
    "properties": {
        "ad": {"maxLength": 20, "minLength": 2, "title": "Ad", "type": "string"},
        'renk "a"': {"$ref": "#/$defs/Color"},
        "yaş": {"title": "Yaş", "type": "integer"},
        "boy": {"title": "Boy", "type": "number", "default": 1.5},
        "puan": {"maximum": 5, "minimum": 1, "title": "Puan", "type": "integer"},
        "var": {"title": "Var", "type": "boolean"},
        "kod": {"pattern": "^[A-Z]{2}\\d{3}$", "title": "Kod", "type": "string"},
        "gün": {"format": "date", "title": "Gün", "type": "string"},
        "{{tür}}": {"const": "kişi", "title": "Tür", "type": "string"},
        "boş": {"title": "Boş", "type": "null"},
        "karışık": {"enum": [1, "iki", None, 2.5]},
    },
    "required": ["ad", 'renk "a"', "yaş", "boy", "var"],
    "title": "Person",
    "type": "object",
}


def asked(schema, **more):
    return CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}} | more


def refused(model, schema, **more):
    answer = post(model, "/v1/chat/completions", asked(schema, **more))
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def only(schema):
    return {"type": "object", "properties": {"x": schema}}


@pytest.mark.parametrize("temperature", [0, 2.0])
def test_an_answer_keeps_to_the_schema(model, temperature):
    answer = post(model, "/v1/chat/completions", asked(PERSON, temperature=temperature, n=2, max_tokens=3, seed=4))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    for choice in found["choices"]:
        data = json.loads(choice["message"]["content"])
        jsonschema.validate(data, PERSON, format_checker=jsonschema.FormatChecker())
        assert list(data) == list(PERSON["properties"])
        assert choice["finish_reason"] == "stop"
        assert choice["diffutron"]["steps"] > 5
        assert 0 < choice["diffutron"]["least_confidence"] <= choice["diffutron"]["mean_confidence"] <= 1
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 2 * 60
    assert answer.headers["x-ignored"] == "max_new_tokens"


def test_the_answer_is_the_models_and_one_without_a_choice_is_given(model):
    options = ["on altı", "on yedi", "otuz"]
    answer = post(model, "/v1/chat/completions", asked(only({"enum": options})))
    own = model.fill({"x": "{{x}}"}, slots={"x": options}, prompt=CHAT["messages"])
    assert answer.json()["choices"][0]["message"]["content"] == own.text
    nothing = post(model, "/v1/chat/completions", asked(only({"const": None})))
    assert nothing.json()["choices"][0]["message"]["content"] == '{"x": null}'
    assert post(model, "/v1/chat/completions", asked({"type": "object"})).json()["usage"]["completion_tokens"] > 0


def test_a_stream_has_the_whole_answer_in_one_piece(model):
    body = asked(only({"type": "boolean"}), stream=True, stream_options={"include_usage": True})
    opening, text, end, usage = events(post(model, "/v1/chat/completions", body))
    assert opening["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(text["choices"][0]["delta"]["content"])["x"] in (True, False)
    assert end["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array"}, "type='array'"),
        ({}, "type=None"),
        ({"type": "object", "properties": []}, "properties="),
        ({"type": "object", "patternProperties": {}}, "'patternProperties'"),
        ({"type": "object", "additionalProperties": True}, "additionalProperties"),
        ({"type": "object", "required": ["y"]}, "required"),
        ({"type": "object", "required": 5}, "required"),
        (only(True), "must be an object"),
        (only({}), "type=None"),
        (only({"type": "object", "properties": {}}), "type='object'"),
        (only({"type": ["string", "array"]}), "type='array'"),
        (only({"type": ["string", 5]}), "type=5"),
        (only({"type": []}), "type=[]"),
        (only({"type": ["string", "null"], "minimum": 5}), "'minimum'"),
        (only({"anyOf": []}), "anyOf=[]"),
        (only({"anyOf": [{"type": "string"}, {"type": "array"}]}), "type='array'"),
        (only({"anyOf": [{"type": "string"}], "minLength": 3}), "'minLength'"),
        (only({"anyOf": [{"type": "string"}] * 9}), "more than 8"),
        (only({"oneOf": [{"type": "string"}]}), "'oneOf'"),
        (only({"allOf": [{"type": "string"}, {"maxLength": 3}]}), "allOf"),
        (only({"type": "string", "minLength": 5, "maxLength": 2}), "minLength"),
        (only({"type": "string", "minLength": 501}), "minLength"),
        (only({"type": "string", "minLength": "5"}), "minLength"),
        (only({"type": "string", "pattern": "a+"}), "pattern"),
        (only({"type": "string", "pattern": "^(?=a)$"}), "pattern"),
        (only({"type": "string", "pattern": 5}), "pattern"),
        (only({"type": "string", "format": "uuid"}), "format"),
        (only({"type": "string", "format": []}), "format"),
        (only({"type": "integer", "minimum": 5, "maximum": 4}), "minimum=5"),
        (only({"type": "integer", "minimum": "0"}), "minimum"),
        (only({"type": "integer", "exclusiveMinimum": True}), "exclusiveMinimum=True"),
        (only({"type": "integer", "maximum": 10**15}), "maximum"),
        (only({"type": "number", "minimum": 1e-20}), "minimum"),
        (only({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}), "exclusiveMinimum=0"),
        (only({"type": "integer", "minimum": 0.2, "maximum": 0.7}), "minimum=0.2"),
        (only({"type": "number", "multipleOf": 2}), "'multipleOf'"),
        (only({"enum": []}), "enum"),
        (only({"enum": 5, "const": 1}), "enum"),
        (only({"enum": {"x": 1}}), "enum"),
        (only({"const": {"x": 1}}), "object or a list"),
        (only({"$ref": "#/$defs/"}), "no such definition"),
        ({"type": "object", "properties": {str(i): {"type": "string", "pattern": "^a$"} for i in range(9)}}, "pattern"),
        (
            {"type": "object", "properties": {str(i): {"type": "integer", "minimum": i} for i in range(17)}},
            "16 different ranges",
        ),
        (only({"enum": [[]]}), "enum"),
        (only({"enum": ["", "x"]}), "enum"),
        (only({"enum": ["x", "x"]}), "enum"),
        (only({"enum": ["x"], "type": "integer"}), "leave no value"),
        (only({"$ref": "#/$defs/y"}), "no such definition"),
        (only({"$ref": 5}), "no such definition"),
        ({"$defs": {"y": {"$ref": "#/$defs/y"}}, **only({"$ref": "#/$defs/y"})}, "in a circle"),
        ({"type": "object", "properties": {str(i): {"type": "boolean"} for i in range(65)}}, "at most 64"),
        (only({"type": "string", "pattern": "^[字]+$"}), "keeps its bounds"),
    ],
)
def test_what_is_no_flat_object_is_refused_by_its_keyword(model, schema, words):
    error = refused(model, schema)
    assert words in error["message"], error
    assert (error["code"], error["param"]) == ("unsupported_value", "response_format.json_schema.schema")


def test_an_object_that_does_not_fit_is_refused(model):
    wide = {"type": "object", "properties": {"x" * 40 + str(i): {"type": "string"} for i in range(30)}}
    assert refused(model, wide)["code"] == "context_length_exceeded"
    assert refused(model, only({"type": "boolean"}), logprobs=True)["param"] == "logprobs"
    passes = post(model, "/v1/chat/completions", asked(PERSON, n=9), max_passes=20)
    assert passes.json()["error"]["code"] == "too_many_passes"
    tags = asked(only({"type": "boolean"}), messages=[{"role": "user", "content": "[/Question]"}])
    assert post(model, "/v1/chat/completions", tags).json()["error"]["code"] == "template_tags"


def test_answers_that_take_too_many_passes_are_refused_before_all_are_made(model, monkeypatch):
    made, filling = [], Templates.filling
    monkeypatch.setattr(Templates, "filling", lambda *given: made.append(given) or filling(*given))
    schema = only({"type": "integer", "minimum": 1, "maximum": 200})
    answer = post(model, "/v1/chat/completions", asked(schema, n=64), max_passes=1000)
    assert answer.json()["error"]["code"] == "too_many_passes"
    assert len(made) == 1
