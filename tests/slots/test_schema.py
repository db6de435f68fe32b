"""JSON Schemas of flat objects, as templates: what they allow, and what pydantic makes of its own classes."""

import json
import re
import time
from fractions import Fraction
from random import Random

import jsonschema
import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import OptionError
from diffutron_ort.scoring.work import finished
from diffutron_ort.slots import ranges
from diffutron_ort.slots.bounds import Bounds, checked
from diffutron_ort.slots.schema import from_schema
from tests.slots.schemas import answer_many

STRINGS = {"enum": ["kırmızı", "mavi"], "title": "Renk", "type": "string"}

# What pydantic 2.14 says of fields of these types, and what a property may then be.
FIELDS = [
    ("str", {"title": "X", "type": "string"}, Bounds(most=16)),
    ("str = 'a'", {"default": "a", "title": "X", "type": "string"}, Bounds(most=16)),
    ("int = Field(ge=0)", {"minimum": 0, "title": "X", "type": "integer"}, Bounds(pattern="integer", minimum=0)),
    ("int = Field(le=10)", {"maximum": 10, "title": "X", "type": "integer"}, Bounds(pattern="integer", maximum=10)),
    ("int = Field(gt=0)", {"exclusiveMinimum": 0, "type": "integer"}, Bounds(pattern="integer", minimum=1)),
    (
        "int = Field(gt=-5, lt=1000)",
        {"exclusiveMaximum": 1000, "exclusiveMinimum": -5, "type": "integer"},
        Bounds(pattern="integer", minimum=-4, maximum=999),
    ),
    ("int = Field(ge=1, le=3)", {"maximum": 3, "minimum": 1, "type": "integer"}, Bounds(options=(1, 2, 3))),
    ("float", {"title": "X", "type": "number"}, Bounds(pattern="number")),
    (
        "float = Field(ge=0, lt=1)",
        {"exclusiveMaximum": 1, "minimum": 0, "type": "number"},
        Bounds(pattern="number", minimum=0, maximum=0.99),
    ),
    ("bool", {"title": "X", "type": "boolean"}, Bounds(options=(True, False))),
    ("date", {"format": "date", "title": "X", "type": "string"}, Bounds(pattern="date")),
    ("Literal['a', 'b']", {"enum": ["a", "b"], "type": "string"}, Bounds(options=("a", "b"))),
    ("Literal['a', 1, None]", {"enum": ["a", 1, None], "title": "X"}, Bounds(options=("a", 1, None))),
    ("Renk", {"$ref": "#/$defs/Renk"}, Bounds(options=("kırmızı", "mavi"))),
    ("Renk = 'mavi'", {"$ref": "#/$defs/Renk", "default": "mavi"}, Bounds(options=("kırmızı", "mavi"))),
    (
        "the same, before 2.9",
        {"allOf": [{"$ref": "#/$defs/Renk"}], "default": "mavi"},
        Bounds(options=("kırmızı", "mavi")),
    ),
    (
        "Optional[Renk]",
        {"anyOf": [{"$ref": "#/$defs/Renk"}, {"type": "null"}], "default": None},
        Bounds(options=("kırmızı", "mavi", None)),
    ),
    (
        "Optional[str]",
        {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "X"},
        Bounds(any_of=(Bounds(options=(None,)), Bounds(most=16))),
    ),
    (
        "the same, by other tools",
        {"type": ["string", "null"], "maxLength": 5},
        Bounds(any_of=(Bounds(options=(None,)), Bounds(most=16, most_characters=5))),
    ),
    (
        "Optional[int] = Field(None, ge=0)",
        {"anyOf": [{"minimum": 0, "type": "integer"}, {"type": "null"}], "description": "Y"},
        Bounds(any_of=(Bounds(options=(None,)), Bounds(pattern="integer", minimum=0))),
    ),
    (
        "int | str | bool",
        {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "boolean"}]},
        Bounds(any_of=(Bounds(options=(True, False)), Bounds(pattern="integer"), Bounds(most=16))),
    ),
]


@pytest.fixture(scope="module")
def model():
    return Diffutron.from_pretrained()


def of(schema, **more):
    return {"type": "object", "$defs": {"Renk": STRINGS}, "properties": {"x": schema}, **more}


@pytest.mark.parametrize(("schema", "bounds"), [case[1:] for case in FIELDS], ids=[case[0] for case in FIELDS])
def test_a_field_of_pydantics_may_be(schema, bounds):
    template, found = from_schema(of(schema))
    assert found == {"x": bounds}
    assert template.places[0].is_quoted != bounds.is_bare


@pytest.mark.parametrize(("schema", "text"), [({"const": "a", "type": "string"}, '"a"'), ({"enum": [None]}, "null")])
def test_a_field_of_one_value_is_given(schema, text):
    assert from_schema(of(schema))[0].end == f'{{"x": {text}}}'


def test_answers_by_random_schemas_are_valid(model):
    answer_many(model, 300, seed=3)


def test_null_and_text_are_both_found_where_the_model_is_sure(model):
    """The value that the model would write is compared with the others, whatever their lengths."""
    slots = {"x": {"any_of": [["Paris", None], "text"]}}
    prompt = "Türkiye'nin başkenti neresidir?"
    filled = model.fill({"x": "{{x}}"}, slots=slots, prompt=prompt)
    assert filled.data == json.loads(filled.text)
    text = model.fill("{{x}}", slots={"x": {"any_of": [["Paris"], "text"]}}, prompt=prompt)
    assert (text.text, text.values) == ("Ankara", {"x": "Ankara"})
    assert text.probabilities["x"] > 0.9
    other = model.fill("{{x}}", slots={"x": {"any_of": [["Ankara"], "[a-z]{2,6}"]}}, prompt=prompt)
    assert other.text == "Ankara"


def test_each_kind_of_value_is_drawn_at_a_high_temperature(model):
    schema = of({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}, {"type": "null"}]})
    template, bounds = from_schema(schema)
    kinds = set()
    for seed in range(20):
        config = model.config(temperature=100.0, seed=seed, steps=1)
        filled = finished(model.templates.filling(template, bounds, None, config).work(model.forward))
        kinds.add(type(filled.data["x"]))
    assert kinds == {int, str, type(None)}


def spelled(number, places):
    """Return a count of units of the last decimal as text."""
    sign, digits = "-" * (number < 0), f"{abs(number):0{places + 1}}"
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def test_ranges_hold_all_and_only_their_numbers():
    rng = Random(2)
    for _ in range(300):
        places = rng.choice((0, 0, 1, 2))
        low, high = sorted(round(rng.uniform(-1, 1) * 10 ** rng.randint(0, 5), places or None) for _ in range(2))
        ends = rng.choice(({"minimum": low}, {"maximum": high}, {"minimum": low, "maximum": high}))
        kind = "number" if places else "integer"
        pattern = re.compile(checked("x", {"pattern": kind, **ends}).expression)
        for _ in range(40):
            count = rng.randint(0, 2 if places else 0)
            near = rng.choice((low, high, 0, rng.uniform(low, high)))
            text = spelled(round(near * 10**count) + rng.randint(-1, 1), count)
            inside = all(
                Fraction(text) >= Fraction(str(end)) if name == "minimum" else Fraction(text) <= Fraction(str(end))
                for name, end in ends.items()
            )
            assert bool(pattern.fullmatch(text)) == inside, (ends, text)


def test_a_range_without_an_end_has_as_many_digits_as_the_other_and_one_more():
    pattern = re.compile(checked("x", {"pattern": "integer", "minimum": 3}).expression)
    assert pattern.fullmatch("99999999")
    assert not pattern.fullmatch("100000000")
    assert re.fullmatch(checked("x", {"pattern": "integer", "minimum": 10**9}).expression, "99999999999")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pattern": "integer", "minimum": 5, "maximum": 4}, "no number from 5 to 4"),
        ({"pattern": "integer", "minimum": 0.5}, "a whole one"),
        ({"pattern": "number", "minimum": float("nan")}, "must be a number"),
        ({"pattern": "number", "minimum": True}, "must be a number"),
        ({"pattern": "number", "maximum": 1e300}, "too many digits"),
        ({"pattern": "integer", "maximum": 10**5000}, "too many digits"),
        ({"pattern": "number", "minimum": -1234567.12, "maximum": 7654321.98}, "rounder numbers"),
        ({"pattern": "text", "minimum": 1}, "of no meaning"),
        ({"any_of": []}, "1 to 8 bounds"),
        ({"any_of": ["text"] * 9}, "1 to 8 bounds"),
        ({"any_of": np.array(["text"])}, "1 to 8 bounds"),
        ({"options": np.array(["a", "b"])}, "must be a list"),
        ({"any_of": ["text"], "most": 3}, "beside it"),
        ({"any_of": [{"any_of": ["text"]}]}, "within another"),
        ({"any_of": ["digit"]}, "any_of[0]: pattern='digit': did you mean 'digits'"),
    ],
)
def test_bounds_that_say_nothing_sensible_are_refused(given, words):
    with pytest.raises(OptionError, match=re.escape(words)):
        checked("x", given)


def test_what_leads_in_a_circle_or_too_far_is_refused():
    circle = {"A": {"$ref": "#/$defs/B"}, "B": {"anyOf": [{"$ref": "#/$defs/A"}]}}
    with pytest.raises(OptionError, match="in a circle"):
        from_schema({"type": "object", "$defs": circle, "properties": {"x": {"$ref": "#/$defs/A"}}})
    twice = {f"D{i}": {"anyOf": [{"$ref": f"#/$defs/D{i + 1}"}] * 1000} for i in range(3)} | {"D3": {"type": "null"}}
    with pytest.raises(OptionError, match="more than 8 kinds"):
        from_schema({"type": "object", "$defs": twice, "properties": {"x": {"$ref": "#/$defs/D0"}}})


def test_a_valid_answer_can_be_read_by_pydantic(model):
    pydantic = pytest.importorskip("pydantic")
    from datetime import date, datetime, time
    from enum import StrEnum
    from typing import Literal

    class Renk(StrEnum):
        kırmızı = "kırmızı"
        mavi = "mavi"

    class Kişi(pydantic.BaseModel):
        ad: str = pydantic.Field(min_length=2, max_length=9, description="Adı.")
        soyad: str | None = None
        yaş: int = pydantic.Field(ge=18)
        pay: float = pydantic.Field(gt=0, le=1)
        renk: Renk = Renk.mavi
        diğer: Renk | None = None
        tür: Literal["kişi"] = "kişi"
        gün: date
        saat: time
        an: datetime | None
        sayı: int | str | None

    schema = Kişi.model_json_schema()
    template, bounds = from_schema(schema)
    filling = model.templates.filling(template, bounds, "Kim?", model.config(temperature=1.0, steps=2))
    filled = finished(filling.work(model.forward))
    jsonschema.validate(filled.data, schema)
    assert Kişi.model_validate_json(filled.text).tür == "kişi"


@pytest.mark.parametrize(
    ("properties", "definition", "words"),
    [
        (5000, {"enum": list(range(50_000))}, "5000 properties: at most 256"),
        (1, {"enum": list(range(50_000)), "const": "x" * 400_000}, "must be a list of 1 to 256 values"),
        (256, {"const": "x" * 400_000}, "at most 1000 characters"),
        (256, {"enum": [1], "type": ["integer"] * 100_000}, "a list of 1 to 7 types"),
    ],
)
def test_schemas_that_would_take_long_are_refused_at_once(properties, definition, words):
    schema = {"properties": {f"p{i}": {"$ref": "#/$defs/d"} for i in range(properties)}, "$defs": {"d": definition}}
    begun = time.process_time()
    with pytest.raises(OptionError, match=words):
        from_schema({"type": "object"} | schema)
    assert time.process_time() - begun < 5, "it took minutes"


def test_several_kinds_of_values_in_each_property_are_no_way_around_the_number_of_slots():
    def text(number):
        return {"anyOf": [{"type": "string", "minLength": number * 8 + way + 1} for way in range(8)]}

    with pytest.raises(OptionError, match="more than 64 different kinds of values"):
        from_schema({"type": "object", "properties": {f"p{i}": text(i) for i in range(9)}})
    from_schema({"type": "object", "properties": {f"p{i}": text(i % 8) for i in range(64)}})


def test_the_expression_of_a_range_is_made_once_and_no_more_of_them_than_are_allowed(monkeypatch):
    made = []
    monkeypatch.setattr(ranges, "expression", lambda *given: made.append(given) or r"\d")

    def properties(different):
        each = [{"type": "number", "minimum": -1000.25, "maximum": 777.5 + i % different} for i in range(64)]
        return {"type": "object", "properties": {f"p{i}": one for i, one in enumerate(each)}}

    from_schema(properties(1))
    assert len(made) <= 1
    made.clear()
    with pytest.raises(OptionError, match="more than 16 different ranges"):
        from_schema(properties(64))
    assert len(made) <= 17


def test_the_end_of_a_range_with_too_many_digits_is_refused_with_a_reason():
    with pytest.raises(OptionError, match="minimum=1e-300: 1e-300 has too many digits, more than 15"):
        from_schema({"type": "object", "properties": {"p": {"type": "number", "minimum": 1e-300}}})
