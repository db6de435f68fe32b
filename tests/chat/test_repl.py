"""The loop: it goes on whatever a line says, and ends when it is told to."""

import signal
import sys

import pytest

from diffutron_ort.chat.repl import LEAVING, STOPPED, converse, follow, until_interrupted
from diffutron_ort.errors import BundleError
from tests.chat.fakes import session, typed

QUESTION = "On iki artı beş kaç eder?"
SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")


def test_a_script_is_done_line_by_line(model):
    talk, _ = session(model)
    lines = [
        f" {QUESTION} ",
        "",
        "/reset",
        QUESTION,
        "/nothing",
        "/steps 0",
        "elma " * 300,
        "a\udcff",
        "/reset",
        QUESTION,
    ]
    assert follow(talk, typed(*lines)) == 4
    assert talk.screen.answers == ["on yedi"] * 3
    assert [error.split(":")[0] for error in talk.screen.errors] == [
        "there is no command /nothing",
        "steps=0",
        "307 tokens of prompt and 64 new ones are 371, the model's context is 256",
        talk.screen.errors[3].split(":")[0],
    ]
    assert "not valid Unicode" in talk.screen.errors[3]


def test_a_script_ends_where_it_says_so(model):
    talk, _ = session(model)
    assert follow(talk, typed(QUESTION, "/exit", QUESTION)) == 0
    assert talk.screen.answers == ["on yedi"]


def test_a_question_may_begin_with_a_slash(model):
    talk, _ = session(model)
    follow(talk, typed("//usr nedir?", "//"))
    assert [turn.question for turn in talk.conversation.turns] == ["/usr nedir?", "/"]


def test_what_cannot_be_written_is_named(model):
    talk, _ = session(model)
    for error, found in (OSError(28, "No space left", "a.md"), "a.md: No space left"), (MemoryError(), "out of memory"):
        talk.write = lambda *_, error=error: (_ for _ in ()).throw(error)
        assert follow(talk, typed("/save a.md")) == 1
        assert talk.screen.errors[-1] == found


def test_a_model_that_cannot_be_loaded_ends_the_talk(model):
    talk, _ = session(model)
    talk._load = lambda: (_ for _ in ()).throw(BundleError("broken"))
    with pytest.raises(BundleError):
        follow(talk, typed("/help"))
    assert talk.screen.errors == []


def test_ctrl_c_twice_ends_and_once_does_not(model):
    talk, _ = session(model)
    converse(talk, typed(KeyboardInterrupt(), "/seed 1", KeyboardInterrupt(), KeyboardInterrupt(), "/seed 2"))
    assert talk.screen.notes == [LEAVING, "seed 1", LEAVING]
    assert talk.config.seed == 1


@SIGNALS
def test_ctrl_c_stops_the_answer_and_keeps_the_talk(model):
    before = signal.getsignal(signal.SIGINT)

    def interrupting(steps):
        for number, step in enumerate(steps):
            if number == 0 and talk.conversation.turns:
                signal.raise_signal(signal.SIGINT)
            yield step

    talk, _ = session(model, until=lambda steps: until_interrupted(interrupting(steps)))
    converse(talk, typed(QUESTION, "Zıddını yaz: sığ", "/seed 3"))
    assert talk.screen.notes == [STOPPED, "seed 3"]
    assert [turn.question for turn in talk.conversation.turns] == [QUESTION]
    assert signal.getsignal(signal.SIGINT) is before


@SIGNALS
def test_a_second_ctrl_c_does_not_wait_for_the_pass(model):
    def hanging(steps):
        yield next(steps)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("this is never reached")

    talk, _ = session(model, until=lambda steps: until_interrupted(hanging(steps)))
    converse(talk, typed(QUESTION, "/seed 3"))
    assert talk.screen.notes == [STOPPED, "seed 3"]
