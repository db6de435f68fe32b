"""What a record asks for, and what becomes of it."""

import pytest

from diffutron_ort.bulk.records import answered, failed, requested
from diffutron_ort.errors import InputError, OptionError

CHAT = [{"role": "user", "content": "Selam"}]


@pytest.mark.parametrize(
    ("record", "prompt", "options"),
    [
        ({"prompt": "Selam", "id": 3}, "Selam", {}),
        ({"messages": CHAT}, CHAT, {}),
        ({"prompt": CHAT}, CHAT, {}),
        ({"prompt": None, "messages": CHAT, "options": None}, CHAT, {}),  # a row of a table with both columns
        ({"prompt": "Selam", "options": {"steps": 4, "seed": None}}, "Selam", {"steps": 4}),
        ({"prompt": "Selam", "steps": "a column of this name is not an option"}, "Selam", {}),
    ],
)
def test_what_a_record_asks_for(record, prompt, options):
    assert requested(record) == (prompt, options)


def test_the_prompt_can_have_another_name():
    assert requested({"soru": "Selam", "prompt": "not this"}, "soru").prompt == "Selam"


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({}, InputError, "there is no prompt"),
        ({"prompt": 3}, InputError, "the prompt is 3"),
        ({"prompt": []}, InputError, "at least one message"),
        ({"messages": "Selam", "prompt": "Selam"}, InputError, "both 'prompt' and 'messages'"),
        ({"prompt": "Selam", "completion": "Aleykümselam"}, InputError, "rename it"),
        ({"prompt": "Selam", "options": [1]}, InputError, "the options are [1]"),
        ({"prompt": "Selam", "options": {"stepz": 1}}, OptionError, "did you mean 'steps'"),
        ({"prompt": "Selam", "options": {"steps": 0}}, OptionError, "steps=0"),
        ({"prompt": "Selam", "options": {"template": False}}, OptionError, "unknown option 'template'"),
    ],
)
def test_a_record_that_cannot_be_answered_says_why(record, error, message):
    with pytest.raises(error, match=".*") as caught:
        requested(record)
    assert message in str(caught.value)


def test_nothing_of_a_record_is_lost(model):
    record = {"id": 7, "prompt": "On iki artı beş kaç eder?", "error": "of an earlier run"}
    done = answered(record, model.complete(record["prompt"]))
    assert done == {"id": 7, "prompt": record["prompt"], "completion": "on yedi", "finish_reason": "stop"}
    assert failed(record, InputError("too long")) == {**record, "error": "too long"}
