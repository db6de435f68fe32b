"""Templates, taken apart and put together."""

import json

import pytest

from diffutron_ort.errors import InputError
from diffutron_ort.slots.template import parse


def places(template, bare=frozenset()):
    found = parse(template, bare)
    return [(place.name, place.is_quoted) for place in found.places], found.is_json


def test_text_keeps_its_braces_and_names_its_places():
    found = parse("Adı {{ad}}, {{{ yaş }}}. { }")
    assert found.names == ["ad", "yaş"]
    assert found.filled({"ad": "Ece", "yaş": "{{ad}}"}) == "Adı Ece, {{{ad}}}. { }"
    assert not found.is_json


def test_places_in_json_are_in_strings_or_are_values():
    assert places('{"a": "x {{p}}", "b": {{q}}, "c": [{"d": {{s}}}]}') == (
        [("p", True), ("q", False), ("s", False)],
        True,
    )


@pytest.mark.parametrize(
    "text", ['{"a": "\\u000{{p}}"}', '{"a": 1{{p}}}', '{"a": {{p}}{{q}}}', '{"a": "\\{{p}}"}', "[{{p}}]", "{{p}}"]
)
def test_what_is_no_object_for_every_value_is_text(text):
    assert not parse(text).is_json


def test_values_that_are_no_strings_lose_the_quotes_of_an_object():
    given = {"a": "{{p}}", "b": "{{q}}", "c": ["{{r}}", 'say "{{s}}"'], "d": "{{ t }}"}
    found = parse(given, frozenset({"q", "r", "s", "t"}))
    assert found.is_json
    quoted = dict(zip(found.names, [place.is_quoted for place in found.places], strict=True))
    assert quoted == {"p": True, "q": False, "r": False, "s": True, "t": False}
    text = found.filled({"p": "x", "q": "1", "r": "true", "s": "y", "t": "null"})
    assert json.loads(text) == {"a": "x", "b": 1, "c": [True, 'say "y"'], "d": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no place", "has no place"),
        ("{{a}} {{a}}", "twice"),
        ("{{1}} {{ }} {{a b}}", "has no place"),
        (["{{a}}"], "must be text"),
        ({"{{a}}": 1, "b": 2}, "a place in the key '\"{{a}}\"'"),
        ('{"b": {"x{{a}}" : 1}}', "a place in the key"),
        ({"a": object(), "b": "{{a}}"}, "cannot be written"),
        ({"a": float("nan"), "b": "{{a}}"}, "cannot be written"),
        ("".join(f"{{{{a{i}}}}}" for i in range(65)), "at most 64"),
    ],
)
def test_what_is_no_template_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        parse(given)
