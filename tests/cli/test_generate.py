"""The command that answers a prompt."""

import json

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.cli.main import main
from diffutron_ort.config import OPTION_NAMES
from diffutron_ort.text.chat_template import render_chat
from tests.command import QUESTION, run


def test_the_answer_and_nothing_else_is_on_standard_output():
    done = run("generate", QUESTION)
    assert (done.returncode, done.stdout.decode()) == (0, "on yedi\n")
    assert b"embedded demonstration" in done.stderr


@pytest.mark.parametrize("arguments", [["generate", "-"], ["generate"]])
def test_a_prompt_is_read_from_standard_input(arguments):
    assert run(*arguments, stdin=f"{QUESTION}\n".encode()).stdout.decode() == "on yedi\n"


def test_json_is_one_object_with_everything(capsys):
    assert main(["generate", QUESTION, "--json", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out)
    assert out.count("\n") == 1
    assert "artı" not in result["text"]
    assert result["text"] == "on yedi"
    assert len(result["ids"]) == 64
    assert result["steps"] <= 32
    assert result["passes"]["full"] == result["steps"]
    assert result["passes"]["cached"] == 0
    assert result["finish_reason"] == "stop"
    length = len(Diffutron.from_pretrained().tokenizer.encode(render_chat([{"role": "user", "content": QUESTION}])))
    assert result["prompt_tokens"] == length
    assert result["completion_tokens"] == len(Diffutron.from_pretrained().tokenizer.encode("on yedi\n"))
    assert 0 < result["least_confidence"] <= result["mean_confidence"] <= 1
    assert result["seconds"] > 0
    assert result["masks_left"] == result["ids"].count(4)
    assert result["model"]["name"]
    assert set(result["options"]) == OPTION_NAMES
    assert result["options"]["seed"] == 4


def test_json_tells_what_the_passes_computed(capsys):
    flags = "--cache block --refresh-steps 3 --max-new-tokens 8 --block-length 4 --steps 8 --no-early-end"
    assert main(["generate", "x", "--json", *flags.split()]) == 0
    result = json.loads(capsys.readouterr().out)
    length = len(Diffutron.from_pretrained().tokenizer.encode(render_chat([{"role": "user", "content": "x"}])))
    full = 2 * (length + 8)  # at the start of a block, and again before its fourth step
    assert result["passes"] == {"full": 4, "cached": 4, "computed": 2 * full + 4 * 4, "predicted": 2 * (4 + 3 + 2 + 1)}


def test_the_surest_of_several_answers_is_printed(capsys, model):
    flags = ["--temperature", "1.5", "--seed", "4", "--max-new-tokens", "24"]
    assert main(["generate", QUESTION, "--best-of", "3", "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    best = model.complete(QUESTION, best_of=3, temperature=1.5, seed=4, max_new_tokens=24)
    assert (found["text"], found["self_confidence"]) == (best.text, pytest.approx(best.self_confidence))
    assert main(["generate", QUESTION, "--best-of", "3"]) == 2
    assert "at temperature 0 all answers are the same" in capsys.readouterr().err
    assert main(["generate", QUESTION, "--best-of", "3", "--show-steps"]) == 2


def test_the_fast_preset_answers(capsys):
    assert main(["generate", QUESTION, "--json", "--preset", "fast"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["text"] == "on yedi"
    assert result["steps"] <= 4
