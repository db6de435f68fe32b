"""A talk in a terminal, as a person has it."""

import json
import signal
import sys

import pytest

from diffutron_ort.chat.repl import LEAVING, STOPPED
from tests.chat.terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, TAB, UP, Terminal
from tests.command import QUESTION

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="opens pseudo-terminals")
pytest.importorskip("prompt_toolkit")

LONG = ["--steps", "128", "--no-early-end", "--max-new-tokens", "128"]
# With `LONG`, an answer takes a minute.
SLOWLY = """
import time
from diffutron_ort.runtime.session import Session
run = Session.__call__
def slowly(*given):
    time.sleep(0.5)
    return run(*given)
Session.__call__ = slowly
"""


def after(first):
    """Return a command that runs after a program."""
    return [sys.executable, "-c", f"import sys\n{first}\nfrom diffutron_ort.__main__ import main\nsys.exit(main())"]


def without(*packages, first=""):
    """Return a command that runs as if packages were not installed."""
    return after(f"sys.modules.update(dict.fromkeys({packages!r}))\n{first}")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUTRON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_talk_from_hello_to_goodbye(cache, tmp_path):
    with Terminal("chat") as terminal:
        assert "the embedded demonstration answers" in terminal.expect("(/help lists the commands").replace("\n", "")
        terminal.ask(QUESTION, ENTER)
        assert "masks left" in terminal.expect("\non yedi\n")
        terminal.ask(f"/save {tmp_path}/a.json", ENTER)
        terminal.expect("(written: ")
        terminal.ask("/steps 0", ENTER)
        terminal.expect("steps=0: must be an integer from 1 to 65536")
        terminal.ask(CTRL_D)
        assert terminal.end() == 0
        assert terminal.is_as_before()
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))[1]["content"] == "on yedi"


def test_what_was_typed_is_there_the_next_time(cache):
    for keys in (QUESTION, ENTER), (UP, ENTER):
        with Terminal("chat") as terminal:
            terminal.ask(*keys)
            terminal.expect("\non yedi\n")
            terminal.ask(CTRL_D)
            assert terminal.end() == 0
    [path] = cache.rglob("history.jsonl")
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [QUESTION]


def test_nothing_is_kept_if_that_is_not_wanted(cache):
    with Terminal("chat", "--no-history") as terminal:
        terminal.ask("/seed 1", ENTER)
        terminal.expect("\nseed 1\n")
        terminal.ask(CTRL_D)
        assert terminal.end() == 0
    assert not list(cache.rglob("history.jsonl"))


@pytest.mark.parametrize("keys", [("bir", ALT_ENTER, "iki", ENTER), ("\x1b[200~bir\riki\x1b[201~", ENTER)])
def test_a_question_can_have_several_lines(cache, tmp_path, keys):
    with Terminal("chat") as terminal:
        terminal.ask(*keys)
        terminal.expect("masks left")  # before which the editor may draw its prompt again
        terminal.ask(f"/save {tmp_path}/a.json", ENTER)
        terminal.expect("(written: ")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))[0]["content"] == "bir\niki"


def test_commands_and_their_values_are_completed(cache):
    with Terminal("chat") as terminal:
        terminal.ask("/opt")
        terminal.expect("list the options")
        terminal.type(TAB, ENTER)
        terminal.expect("max_new_tokens")
        terminal.ask("/preset lo")
        terminal.expect("long")
        terminal.type(TAB, ENTER)
        terminal.expect("long steps=128")


@pytest.mark.parametrize("missing", [(), ("rich",), ("rich", "prompt_toolkit")], ids=["", "rich", "both"])
def test_ctrl_c_stops_an_answer_and_keeps_the_talk(cache, missing):
    with Terminal("chat", *LONG, command=without(*missing, first=SLOWLY)) as terminal:
        terminal.ask(QUESTION, ENTER)
        if not missing:
            terminal.expect("step 3 ")
        terminal.expect_an_answer_to_begin()
        terminal.type("typed meanwhile", CTRL_C)
        assert "typed" not in terminal.expect(STOPPED)
        terminal.ask(CTRL_C)
        terminal.expect(LEAVING)
        terminal.ask(CTRL_C)
        assert terminal.end() == 0
        assert terminal.is_as_before()


@pytest.mark.parametrize("command", [without("rich"), without("rich", "prompt_toolkit")], ids=["rich", "both"])
def test_an_answer_comes_as_it_settles_without_rich(cache, command):
    with Terminal("chat", "--json", command=command) as terminal:
        terminal.ask(QUESTION, ENTER)
        assert "masks left" not in terminal.expect('"text": "on yedi"')
    with Terminal("chat", command=command) as terminal:
        terminal.ask(QUESTION, ENTER)
        assert "masks left" not in terminal.expect("\non yedi\n")
        terminal.ask(CTRL_D)
        assert terminal.end() == 0


@pytest.mark.parametrize("where", ["prompt", "plain prompt", "answer"])
def test_sigterm_leaves_the_terminal_as_it_was(cache, where):
    missing = ["prompt_toolkit"] if where == "plain prompt" else []
    with Terminal("chat", *LONG, command=without(*missing, first=SLOWLY)) as terminal:
        terminal.expect_prompt()
        if where == "answer":
            terminal.type(QUESTION, ENTER)
            terminal.expect("step 3 ")
        assert terminal.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert terminal.is_as_before()
        assert "Traceback" not in terminal.seen
        assert terminal.raw.count("\x1b[?25l") <= terminal.raw.count("\x1b[?25h")  # the cursor is shown


def test_a_small_terminal_is_enough(cache):
    with Terminal("chat", rows=15, columns=40) as terminal:
        terminal.ask(QUESTION, ENTER)
        terminal.expect("\non yedi\n")
        terminal.ask(CTRL_D)
        assert terminal.end() == 0


def test_what_is_wrong_with_the_model_is_said_before_the_prompt(cache):
    patient = after("from diffutron_ort.cli import chat; chat.SOON = 600.0")
    with Terminal("chat", "--variant", "int3", command=patient) as terminal:
        assert terminal.end() == 2
        assert "int3" in terminal.seen
        assert "> " not in terminal.seen
