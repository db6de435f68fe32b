"""The command that chooses among given answers."""

import json

import pytest

from diffutron_ort.cli.main import main
from tests.command import run

QUESTION = "On iki artı beş kaç eder?"
SUMS = ["on altı", "on yedi", "yirmi yedi"]


def printed(capsys, *arguments):
    assert main(["choose", *arguments]) == 0
    return capsys.readouterr().out


def test_the_answers_come_with_the_most_likely_first(capsys, model):
    found = model.choose(QUESTION, SUMS)
    lines = printed(capsys, QUESTION, *SUMS[:2], "--option", SUMS[2]).splitlines()
    order = sorted(range(3), key=lambda i: -found.probabilities[i])
    assert lines == [f"{found.probabilities[i]:.4f}  {SUMS[i]}" for i in order]
    assert lines[0].endswith("on yedi")


def test_a_scale_comes_in_order_with_its_mean(capsys, model):
    found = model.scale(QUESTION, SUMS, values=[-1, 2, 3])
    lines = printed(capsys, QUESTION, "--scale", *SUMS, "--values", "-1", "2", "3").splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [*SUMS, "(the mean)"]
    assert float(lines[-1].split()[0]) == pytest.approx(found.mean, abs=6e-5)


@pytest.mark.parametrize(("words", "yes"), [([], "evet"), (["on yedi", "on altı"], "on yedi")])
def test_yes_or_no_is_a_number(capsys, model, words, yes):
    no = words[1] if words else "hayır"
    assert printed(capsys, QUESTION, "--yes-no", *words) == f"{model.yes_no(QUESTION, yes=yes, no=no):.4f}\n"


def test_json_has_everything(capsys, model):
    asked = ["seç: {options}", *SUMS, "--debias", "--separator", " | ", "--normalise", "bytes"]
    found = json.loads(printed(capsys, *asked, "--json", "--method", "pll"))
    own = model.choose(asked[0], SUMS, debias=True, separator=" | ", normalise="bytes", method="pll")
    assert [one["probability"] for one in found["answers"]] == pytest.approx(own.probabilities.tolist())
    assert [one["logprob"] for one in found["answers"]] == pytest.approx([one.logprob for one in own.scores])
    assert (found["best"], found["index"], found["method"]) == (own.best, own.index, "pll")
    assert len(found["by_order"]) == 6
    told = {name: found[name] for name in ("normalise", "debias", "separator", "template")}
    assert told == {"normalise": "bytes", "debias": True, "separator": " | ", "template": True}


def test_json_has_the_place_on_a_scale_and_no_infinity(capsys, model):
    banned = str(model.tokenizer.encode("elli")[0])
    found = json.loads(printed(capsys, QUESTION, "--scale", "on yedi", "elli", "--json", "--suppress-tokens", banned))
    assert found["mean"] == 0.0
    assert found["answers"][1]["probability"] == 0.0
    assert found["answers"][1]["logprob"] is None
    assert found["options"]["repetition_penalty"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["x"], 2, "nothing to choose from"),
        (["x", "a", "--values", "1"], 2, "--scale"),
        (["x", "--yes-no", "a"], 2, "two answers"),
        (["--yes-no", "Bu doğru mu?"], 2, "there is no question: it comes first"),
        (["x", "a", "b", "--yes-no"], 2, "in one place"),
        (["x {options}", "--scale", "a", "b", "--debias"], 2, "stand in order"),
        (["x", "a", "--debias"], 2, "{options}"),
        (["x", "a", "--samples", "4"], 2, "elbo"),
        (["x", "a", "--stride", "4"], 2, "no flag --stride"),
        (["x", "a", "a"], 1, "same answer"),
        (["x", "a", " "], 1, "no text"),
        ([" ", "a"], 1, "is blank"),
        (["x " * 300, "a"], 1, "context is 256"),
        (["x", "--scale", "a", "b", "--values", "1"], 1, "2 finite numbers"),
        (["x", "a", "--model", "nowhere"], 1, "nowhere"),
    ],
)
def test_bad_usage_and_bad_input_are_one_line(capsys, arguments, code, said):
    try:
        got = main(["choose", *arguments])
    except SystemExit as exited:
        got = exited.code
    streams = capsys.readouterr()
    last = streams.err.strip().splitlines()[-1]
    assert (got, streams.out) == (code, "")
    assert said in last


def test_the_question_can_come_from_standard_input():
    done = run("choose", "-", "on yedi", "on altı", stdin=QUESTION.encode())
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, b"1.0000  on yedi")
