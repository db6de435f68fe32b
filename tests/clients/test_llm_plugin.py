"""The plugin llm-diffutron: models in llm's own process, without a server."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from diffutron_ort import GenerationConfig
from tests.clients.llm_command import Llm
from tests.clients.serving import MESSAGES, QUESTION, TOO_LONG

llm_package = pytest.importorskip("llm")
pytest.importorskip("llm_diffutron")

MANY = {"suppress_tokens": [0, 1, 1773], "max_new_tokens": 16, "block_length": 4, "early_end": False, "stop": ["nisan"]}


@pytest.fixture
def llm(tmp_path: Path) -> Llm:
    return Llm(tmp_path, DIFFUTRON_MODEL="")


def flags(**options: object) -> list[str]:
    """Return the flags for options, as a shell has them."""
    values = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in options.items())
    return [word for name, value in values for word in ("-o", name, value)]


@pytest.mark.parametrize("stream", [[], ["--no-stream"]])
def test_a_prompt_gets_the_librarys_answer_and_its_usage_is_logged(llm, model, stream):
    printed, expected = llm("-m", "diffutron", QUESTION, *flags(**MANY), *stream), model.complete(QUESTION, **MANY)
    [entry] = llm.logged()
    assert printed == expected.text + "\n"
    assert entry["model"] == "diffutron/nano"
    assert entry["options_json"] == MANY
    assert (entry["input_tokens"], entry["output_tokens"]) == (expected.prompt_tokens, expected.completion_tokens)


def test_a_conversation_remembers_what_was_said(llm, model):
    messages = [{"role": "system", "content": "Kısa cevap ver."}, {"role": "user", "content": "bugün salı, yarın?"}]
    llm("-m", "diffutron", messages[1]["content"], "--system", messages[0]["content"])
    said = [*messages, {"role": "assistant", "content": model.chat(messages)}, *MESSAGES]
    assert (
        llm("-c", QUESTION, *flags(stop="sekiz", preset="fast")) == model.chat(said, stop="sekiz", preset="fast") + "\n"
    )


def test_every_option_is_explained(llm):
    shown = llm("models", "list", "--options", "-m", "diffutron")
    assert set(re.findall(r"^    (\w+): ", shown, re.MULTILINE)) == {spec.name for spec in fields(GenerationConfig)} | {
        "preset"
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", "0", "steps=0: must be an integer from 1"),
        ("steps", "many", "valid integer"),
        ("cache", "blocks", "did you mean 'block'"),
        ("preset", "quick", "must be one of 'short', 'long', 'fast'"),
        ("suppress_tokens", "[x", "Expecting value"),
        ("stepps", "1", "not permitted"),
    ],
)
def test_a_wrong_option_is_refused(option, value, message):
    with pytest.raises(ValueError, match=message):
        llm_package.get_model("diffutron/nano").Options(**{option: value})


def test_a_wrong_option_is_refused_in_the_commands_way(llm):
    assert llm("-m", "diffutron", QUESTION, "-o", "steps", "0", code=1).startswith(
        "Error: steps\n  Value error, steps=0"
    )


def test_a_text_that_is_too_long_is_refused_with_the_reason(llm):
    error = llm("-m", "diffutron", TOO_LONG[0]["content"], code=1)
    assert error.startswith("Error: ")
    assert "the model's context is 256" in error


def test_the_usual_model_is_that_of_the_environment(tmp_path, model):
    folder = str(model.bundle.folder)
    llm = Llm(tmp_path, DIFFUTRON_MODEL=folder)
    assert llm("-m", "diffutron", QUESTION) == model.generate(QUESTION) + "\n"
    assert llm.logged()[0]["model"] == f"diffutron/{folder}"


def test_a_model_is_loaded_once_and_streams_what_has_settled(model):
    found, steps = llm_package.get_model("diffutron/nano"), list(model.stream(QUESTION, **MANY))
    pieces = list(found.prompt(QUESTION, **MANY))
    assert "".join(pieces) == steps[-1].text
    assert len(pieces) == len({step.settled for step in steps} - {""}) > 3
    assert found._loaded is found._loaded
