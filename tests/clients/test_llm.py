"""The command `llm`, told of the server by its file of models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.serving import MESSAGES, QUESTION, TOO_LONG

pytest.importorskip("llm")

MODELS = """
- model_id: diffutron
  model_name: nano
  api_base: {base}
"""
Llm = Callable[..., str]


@pytest.fixture
def llm(server, tmp_path: Path) -> Llm:
    """The command, with a home of its own; it returns what is printed."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(base=server.base), "utf-8")
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    return run


def logged(llm: Llm) -> list[dict[str, Any]]:
    return json.loads(llm("logs", "--json", "-n", "0"))


@pytest.mark.parametrize("flags", [[], ["--no-stream"]])
def test_a_prompt_gets_the_librarys_answer_and_its_usage_is_logged(llm, model, flags):
    options = ["-o", "seed", "3", "-o", "temperature", "1", "-o", "max_tokens", "16"]
    printed = llm("-m", "diffutron", QUESTION, *options, *flags)
    expected = model.complete(QUESTION, seed=3, temperature=1.0, max_new_tokens=16)
    [entry] = logged(llm)
    assert printed == expected.text + "\n"
    assert entry["response"] == expected.text
    assert (entry["input_tokens"], entry["output_tokens"]) == (expected.prompt_tokens, expected.completion_tokens)


def test_a_conversation_sends_what_was_said(llm, model):
    messages = [{"role": "system", "content": "Kısa cevap ver."}, {"role": "user", "content": "bugün salı, yarın?"}]
    llm("-m", "diffutron", messages[1]["content"], "--system", messages[0]["content"])
    said = [*messages, {"role": "assistant", "content": model.chat(messages)}, *MESSAGES]
    assert llm("-c", QUESTION) == model.chat(said) + "\n"


def test_a_text_that_is_too_long_is_refused_with_the_reason(llm):
    assert "the model's context is 256" in llm("-m", "diffutron", TOO_LONG[0]["content"], code=1)
