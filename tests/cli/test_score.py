"""The command that says how likely a text is."""

import json
import math
import re

import numpy as np
import pytest

from diffutron_ort.cli import working
from diffutron_ort.cli.figures import rounded, uncertain
from diffutron_ort.cli.main import main
from diffutron_ort.cli.score import _result, figures
from diffutron_ort.scoring.score import Score
from tests.command import run

CONTEXT, TEXT = "Türkiye'nin başkenti", " Ankara şehridir."


def printed(capsys, *arguments):
    assert main(["score", *arguments]) == 0
    return capsys.readouterr()


def test_the_figures_are_those_of_the_model(capsys, model):
    score = model.score(TEXT, CONTEXT)
    streams = printed(capsys, TEXT, "--context", CONTEXT)
    lines = dict(line.split("  ", 1) for line in streams.out.splitlines())
    assert list(lines) == ["log-probability", "tokens", "nats a token", "bits a byte", "perplexity"]
    assert lines["log-probability"].strip() == f"{score.logprob:.4g} nats"
    assert lines["tokens"].strip() == f"{score.tokens}"
    assert lines["perplexity"].strip() == f"{score.perplexity:.4g}"


def test_an_estimate_has_its_error(capsys, model):
    score = model.score(TEXT, method="elbo", samples=8, seed=3)
    out = printed(capsys, TEXT, "--method", "elbo", "--samples", "8", "--seed", "3").out
    assert f"{score.logprob:.4g} ± {score.standard_error:.2g} nats" in out
    assert re.search(r"^perplexity  +[\d.,]+ ± [\d.,]+$", out, re.MULTILINE)


def test_a_token_a_line(capsys, model):
    score = model.score("Salı\n\tgünü", method="pll")
    lines = printed(capsys, "Salı\n\tgünü", "--method", "pll", "--tokens").out.splitlines()
    found = [line.split("\t") for line in lines]
    assert [piece for piece, _ in found] == [
        model.tokenizer.piece(token).replace("\n", "\\n").replace("\t", "\\t") for token in score.ids.tolist()
    ]
    assert [float(value) for _, value in found] == pytest.approx(score.logprobs.tolist(), abs=6e-5)


def test_json_has_everything(capsys, model):
    score = model.score("Ankara", f"{CONTEXT} neresidir?", template=True, preset="fast")
    found = json.loads(
        printed(capsys, "Ankara", "--context", f"{CONTEXT} neresidir?", "--template", "--json", "--preset", "fast").out
    )
    assert found["logprob"] == pytest.approx(score.logprob)
    assert found["logprobs"] == pytest.approx(score.logprobs.tolist())
    assert found["ids"] == score.ids.tolist()
    assert found["pieces"][-1] == "\n\n"
    assert (found["method"], found["samples"], found["preset"]) == ("policy", None, "fast")
    assert (found["options"]["cache"], found["options"]["temperature"]) == ("block", 0)
    assert found["context_tokens"] == score.context_tokens


def test_what_is_infinite_is_null_and_said(model):
    score = Score("pll", -math.inf, np.array([5, 6]), np.array([-math.inf, -1.0]), 4, False, 0, 0, math.nan, 2)
    found = _result(score, model, 0.1, {"method": "pll"})
    assert (found["logprob"], found["perplexity"], found["standard_error"]) == (None, None, None)
    assert found["logprobs"] == [None, -1.0]
    json.dumps(found, allow_nan=False)
    assert dict(figures(score))["perplexity"] == "inf"
    least = Score("pll", -5000.0, np.array([5]), np.array([-5000.0]), 4, False, 0, 0, None, 1)
    assert _result(least, model, 0.1, {"method": "pll"})["perplexity"] is None


def test_a_joined_token_and_a_cut_context_are_said(capsys):
    assert "joins the context and the text to one token" in printed(capsys, "kara", "--context", "An").err
    assert "did not see the first" in printed(capsys, "Salı", "--context", "günü " * 300).err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x", "--samples", "8"], 2, "--samples is of the method elbo, and the method is policy"),
        (["x", "--method", "elbo", "--samples", "1"], 2, "samples=1: must be"),
        (["x", "--method", "elbo", "--samples", "99999999"], 2, "samples=99999999: must be"),
        (["x", "--stride", "0"], 2, "stride=0: must be"),
        (["x", "--method", "pll", "--steps", "3"], 2, "of no meaning for the method 'pll'"),
        (["x", "--method", "elbo", "--preset", "fast"], 2, "preset: of no meaning"),
        (["x", "--temperature", "1"], 2, "no flag --temperature"),
        (["x", "--stop", "a"], 2, "no flag --stop"),
        (["x", "--method", "bound"], 2, "'bound' is not one of policy, elbo"),
        (["x", "--json", "--tokens"], 2, "not allowed with"),
        (["x", "y"], 2, "quote the text"),
        (["  "], 1, "the text is blank"),
        (["x", "--template"], 1, "the context has no text"),
        (["x", "--seed", "-1"], 2, "seed=-1"),
        (["x", "--model", "nowhere"], 1, "nowhere is not a folder"),
    ],
)
def test_bad_input_gets_one_line(capsys, arguments, code, message):
    try:
        assert main(["score", *arguments]) == code
    except SystemExit as exit_:
        assert exit_.code == code  # noqa: PT017
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_standard_input_is_read_and_its_bytes_are_checked():
    done = run("score", "--method", "pll", stdin="Salı\n".encode())
    assert (done.returncode, done.stdout.splitlines()[1].split()) == (0, [b"tokens", b"1"])
    done = run("score", stdin=b"\xff\xfe\x00")
    assert (done.returncode, done.stdout) == (1, b"")


def test_long_work_shows_its_progress(capsys, monkeypatch):
    monkeypatch.setattr(working, "PATIENCE", 0.0)
    assert "scoring\n" in printed(capsys, "Salı", "--method", "elbo").err


def test_figures_are_rounded_for_people():
    assert [rounded(value) for value in (None, 0.0, 1.23456, 123.456, 12345.6, -1e15)] == [
        "–", "0", "1.235", "123.5", "12,346", "-1e+15",
    ]  # fmt: skip
    assert rounded(172.8, 2) == "173"
    assert uncertain(1.5, 0.123) == "1.5 ± 0.12"
    assert uncertain(1.5, None) == uncertain(1.5, math.inf) == "1.5"
