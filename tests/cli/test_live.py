"""The canvas as it denoises, on a terminal and on plain lines."""

import re
import sys

import pytest

from diffutron_ort.cli.live import ending, unneeded
from tests.command import QUESTION, on_terminal, run
from tests.fakes import scripted

TERMINALS = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
EARLY = ["generate", QUESTION, "--show-steps"]  # 64 masks in two blocks, of which the answer needs the first
WHOLE = [*EARLY, "--no-early-end"]


def steps_of(text):
    return [line for line in text.splitlines() if line.startswith("step ")]


def test_steps_are_plain_lines_where_there_is_no_terminal():
    done = run(*EARLY)
    assert done.stdout.decode() == "on yedi\n"
    text = done.stderr.decode()
    lines = steps_of(text)
    assert [line.split()[1] for line in lines] == [str(i + 1) for i in range(len(lines))]
    assert all(line.split()[2:4] == ["block", "1"] for line in lines)
    assert lines[-1].endswith("| 'on yedi'")
    left = 64 - len(lines)
    assert text.splitlines()[-1] == f"answer ended after {len(lines)} steps, {left} masks not needed"
    assert "\x1b" not in text


def test_all_steps_end_without_a_word_of_masks():
    done = run(*WHOLE, "--max-new-tokens", "16", "--steps", "8", "--block-length", "8")
    lines = done.stderr.decode().splitlines()
    assert [line.split()[3] for line in steps_of(done.stderr.decode())] == ["1"] * 4 + ["2"] * 4
    assert lines[-1] == "done after 8 steps"


@TERMINALS
@pytest.mark.parametrize("rich", [True, False])
def test_steps_are_live_on_a_terminal_that_has_rich(rich):
    hide = "" if rich else "import sys; sys.modules['rich'] = None; "
    code = f"{hide}from diffutron_ort.cli.main import main; main({EARLY!r})"
    _, text, others = on_terminal(["-c", code], [sys.executable], ["stderr"])
    assert others == {"stdout": "on yedi\n"}
    assert ("masks left" in text) is rich
    assert ("░░" in text) is rich
    assert ("\x1b[2;34m░" in text or "\x1b[2m\x1b[34m░" in text) is rich  # masks
    assert ("\x1b[1;30;42m" in text) is rich  # new tokens
    assert ("step 1 block 1" in text) is not rich


@TERMINALS
@pytest.mark.parametrize("columns", ["100", "40", "10"])
def test_the_last_panel_says_how_it_ended_and_holds_no_mask(columns):
    _, text, _ = on_terminal(EARLY, streams=["stderr"], COLUMNS=columns)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text[text.rindex("╭") :])
    assert "answe" in last
    assert "░" not in last
    assert columns == "10" or "answer ended after 32 steps" in last
    assert columns == "10" or "32 masks not needed" in last


def test_masks_that_the_model_chose_are_needed(model):
    short = scripted(model, "on yedi")[0]
    steps = list(short.stream("x", steps=64))
    mask = model.bundle.special.mask
    start, length = steps[0].start, len(steps[0].ids)
    committed = {position for step in steps for position in step.positions.tolist()}
    assert unneeded(steps, mask) == set(range(start, length)) - committed
    whole = list(short.stream("x", steps=64, early_end=False))
    assert unneeded(whole, mask) == set()
    assert ending(whole, mask) == ("done after 64 steps", "")
    assert ending(whole[:1], mask) == ("answer ended after 1 step", "63 masks not needed")
