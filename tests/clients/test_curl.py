"""curl: the lines of docs/clients.md."""

import json
import shutil
from typing import Any

import pytest

from diffutron_ort.completion import Completion
from diffutron_ort.sampler.engine import run
from tests.clients.document import blocks, printed, told

pytest.importorskip("msgspec")  # of [serve]
if not shutil.which("curl"):
    pytest.skip("needs curl", allow_module_level=True)

CHAT, STREAM, COMPLETION, SCORE, DECISIONS = blocks("sh", "curl")


@pytest.fixture
def curl(server, tmp_path) -> Any:
    return lambda block: printed(["bash", "-c", told(block, server)], tmp_path)


def test_a_chat(curl, model):
    [choice] = json.loads(curl(CHAT))["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": model.generate("On iki artı beş kaç eder?"),
        "refusal": None,
    }
    assert choice["diffutron"]["steps"] == model.complete("On iki artı beş kaç eder?").steps


def test_a_stream(curl, model):
    *events, done = curl(STREAM).split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == model.generate(
        "Zıddını yaz: sığ"
    )
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert done == "data: [DONE]"


def test_text_between_a_prompt_and_a_suffix(curl, model):
    sequence = model.raw_sequence("Türkiye'nin başkenti", " şehridir.", max_new_tokens=2)
    expected = Completion.of(step for _, step in run(model.engine, [sequence], 1)).text
    [choice] = json.loads(curl(COMPLETION))["choices"]
    assert (choice["text"], choice["finish_reason"]) == (expected, "length")


def test_scores(curl, model):
    right, wrong = json.loads(curl(SCORE))["scores"]
    assert right["logprob"] == pytest.approx(
        model.score("on yedi", "On iki artı beş kaç eder?", template=True).logprob, rel=1e-5
    )
    assert right["logprob"] > wrong["logprob"]


def test_decisions(curl, model):
    answers = json.loads(curl(DECISIONS))["answers"]
    yes = model.yes_no("Sonuç on yedi.\n\nBüyük mü?\n- evet\n- hayır")
    assert answers == {"big": {"type": "noul", "noul": pytest.approx(yes, rel=1e-4)}}
