"""generation_config.json: what of it becomes a bundle's own options."""

import json
from dataclasses import replace

import pytest

from diffutron_ort.errors import DiffutronWarning, OptionError
from diffutron_ort_export.checkpoint.generation_config import generation_defaults
from diffutron_ort_export.checkpoint.source import Source, open_source
from tests.export.conftest import TINY


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


def defaults(source: Source, context: int = 256, **generation: object) -> dict:
    return generation_defaults(replace(source, generation=generation), context)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"temperature": None, "steps": None, "stop": None, "max_length": None, "eos_token_id": None}, {}),
        ({"max_new_tokens": 32.0, "steps": 16.0}, {"max_new_tokens": 32, "steps": 16}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"eos_token_id": [1, 2], "max_length": 20, "top_p": 0.9, "transformers_version": "5", "auto_map": {}}, {}),
        ({"do_sample": True, "temperature": 0.6}, {"temperature": 0.6}),
        ({"do_sample": False, "temperature": 1.0}, {"temperature": 1.0}),
        ({"do_sample": None, "temperature": 0.5}, {"temperature": 0.5}),
        ({"stop": ["son"], "suppress_tokens": [5, 6]}, {"stop": ("son",), "suppress_tokens": (5, 6)}),
    ],
)
def test_what_is_read(source: Source, given: dict, expected: dict) -> None:
    found = defaults(source, **given)
    assert found == expected
    assert json.dumps(found)
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
        ({"max_new_tokens": True}, "max_new_tokens=True"),
        ({"suppress_tokens": [512]}, "suppress_tokens holds 512: ids are below 512"),
        ({"penalty_exempt": [600]}, "penalty_exempt holds 600"),
        ({"suppress_tokens": list(range(512))}, "suppress_tokens holds the whole vocabulary"),
        ({"commit": "factor", "remasking": "random"}, "commit='factor'"),
    ],
)
def test_what_has_no_meaning(source: Source, given: dict, message: str) -> None:
    with pytest.raises(OptionError, match=rf"generation_config.json of checkpoint: {message}"):
        defaults(source, **given)


def test_suppressing_all_of_an_output_vocabulary(source: Source) -> None:
    with pytest.raises(OptionError, match="the whole vocabulary"):
        defaults(replace(source, output_vocabulary=(0, 4, 7)), suppress_tokens=[0, 4, 7, 9])


@pytest.mark.parametrize(
    ("context", "wanted", "new"), [(256, 4096, 128), (256, 256, 128), (64, None, 32), (16, None, 8), (4, 8, 1)]
)
def test_answers_that_leave_a_prompt_no_room(source: Source, context: int, wanted: int | None, new: int) -> None:
    with pytest.warns(
        DiffutronWarning, match=rf"a context of {context} tokens has no room .*: the bundle's default is"
    ):
        found = defaults(source, context, max_new_tokens=wanted)
    assert 1 <= found["max_new_tokens"] <= context // 2
    assert found == {"max_new_tokens": new}


def test_answers_that_leave_a_prompt_room(source: Source) -> None:
    assert defaults(source, 256, max_new_tokens=128) == {"max_new_tokens": 128}
