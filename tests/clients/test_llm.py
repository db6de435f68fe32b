"""llm, told of the server by its file of models."""

from pathlib import Path

import pytest

from tests.clients.llm_command import Llm
from tests.clients.serving import MESSAGES, QUESTION, TOO_LONG

pytest.importorskip("llm")

MODELS = """
- model_id: served-nano
  model_name: nano
  api_base: {base}
"""


@pytest.fixture
def llm(server, tmp_path: Path) -> Llm:
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(base=server.base), "utf-8")
    return Llm(tmp_path)


@pytest.mark.parametrize("flags", [[], ["--no-stream"]])
def test_a_prompt_gets_the_librarys_answer_and_its_usage_is_logged(llm, model, flags):
    options = ["-o", "seed", "3", "-o", "temperature", "1", "-o", "max_tokens", "16"]
    printed = llm("-m", "served-nano", QUESTION, *options, *flags)
    expected = model.complete(QUESTION, seed=3, temperature=1.0, max_new_tokens=16)
    [entry] = llm.logged()
    assert printed == expected.text + "\n"
    assert (entry["model"], entry["response"]) == ("served-nano", expected.text)
    assert (entry["input_tokens"], entry["output_tokens"]) == (expected.prompt_tokens, expected.completion_tokens)


def test_a_conversation_sends_what_was_said(llm, model):
    messages = [{"role": "system", "content": "Kısa cevap ver."}, {"role": "user", "content": "bugün salı, yarın?"}]
    llm("-m", "served-nano", messages[1]["content"], "--system", messages[0]["content"])
    said = [*messages, {"role": "assistant", "content": model.chat(messages)}, *MESSAGES]
    assert llm("-c", QUESTION) == model.chat(said) + "\n"


def test_a_text_that_is_too_long_is_refused_with_the_reason(llm):
    assert "the model's context is 256" in llm("-m", "served-nano", TOO_LONG[0]["content"], code=1)
