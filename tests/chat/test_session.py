"""A conversation: what the model is asked, what is kept, and what no longer fits."""

import json

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import ContextError, InputError, OptionError
from tests.chat.fakes import session

QUESTIONS = ("On iki artı beş kaç eder?", "Hangi ülkenin başkenti Viyana?", "Zıddını yaz: sığ")


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("system", "preset", "options"),
    [("", None, {}), ("Kısa cevap ver.", "fast", {"seed": 3, "temperature": 0.7, "max_new_tokens": 32})],
)
def test_answers_are_those_of_chat_with_the_same_messages_and_options(model, system, preset, options):
    talk, _ = session(model, system=system, preset=preset, **options)
    messages = [message("system", system)] if system else []
    for question in QUESTIONS:
        talk.ask(question)
        messages.append(message("user", question))
        messages.append(message("assistant", model.chat(messages, preset=preset, **options)))
    assert talk.conversation.messages() == messages
    assert talk.screen.answers == [each["content"] for each in messages if each["role"] == "assistant"]


def test_the_oldest_turns_make_way_and_the_system_message_never(model):
    own = Diffutron(model.bundle, model.tokenizer, model.forward)
    talk, _ = session(own, system="Kısa.", steps=2)
    asked = []
    own.chat = lambda messages, **how: asked.append(messages) or model.chat(messages, **how)
    questions = [f"{number}. soru: {'elma ' * 20}" for number in range(12)]
    for question in questions:
        talk.ask(question)
    dropped, seen = talk.conversation.forgotten, asked[-1]
    assert 6 < dropped < 11
    assert len(asked) == 12 + dropped  # what was dropped once is not tried again
    assert [each["content"] for each in seen if each["role"] != "assistant"] == ["Kısa.", *questions[dropped:]]
    before = talk.conversation.messages(dropped - 1)[:-2]
    with pytest.raises(ContextError):  # one more turn would not have fitted
        model.chat([*before, seen[-1]], steps=2)
    assert talk.screen.notes.count("(the oldest turn was dropped: the model's context has no more room)") > 4
    assert len(talk.conversation.messages()) == 25  # all are saved


def test_a_question_that_cannot_fit_is_an_error_and_costs_nothing(model):
    talk, _ = session(model)
    talk.ask(QUESTIONS[0])
    with pytest.raises(ContextError, match="the model's context is 256: shorten the prompt, or lower max_new_tokens"):
        talk.ask("elma " * 300)
    assert (len(talk.conversation.turns), talk.conversation.forgotten) == (1, 0)
    talk.ask(QUESTIONS[1])
    assert len(talk.conversation.turns) == 2


def stopping(steps):
    yield next(steps)
    raise KeyError


def test_an_answer_that_is_stopped_leaves_no_turn_and_can_be_asked_again(model):
    talk, _ = session(model, until=stopping)
    with pytest.raises(KeyError):
        talk.ask(QUESTIONS[0])
    assert talk.conversation.turns == []
    talk._until = iter
    talk.ask_again()
    assert talk.screen.answers == ["on yedi"]


def test_another_answer_takes_the_place_of_the_first_unless_it_fails(model):
    talk, _ = session(model)
    talk.ask(QUESTIONS[0])
    talk.set(max_new_tokens=1)
    talk.ask_again()
    assert talk.conversation.turns == [(QUESTIONS[0], "on")]
    assert talk.screen.notes == ["(cut at max_new_tokens=1)"]
    talk.set(max_new_tokens=256)
    with pytest.raises(ContextError):
        talk.ask_again()
    assert talk.conversation.turns == [(QUESTIONS[0], "on")]
    talk.unset("max_new_tokens")
    talk.ask_again()
    assert talk.conversation.turns == [(QUESTIONS[0], "on yedi")]


def test_a_turn_that_is_undone_is_asked_again_beside_the_others(model):
    talk, _ = session(model)
    with pytest.raises(InputError, match="no question"):
        talk.ask_again()
    with pytest.raises(InputError, match="no turn"):
        talk.undo()
    talk.ask(QUESTIONS[0])
    talk.ask(QUESTIONS[1])
    talk.undo()
    talk.ask_again()
    assert [turn.question for turn in talk.conversation.turns] == [*QUESTIONS[:2]]
    talk.reset()
    talk.ask_again()
    assert [turn.question for turn in talk.conversation.turns] == [QUESTIONS[1]]


def test_a_preset_replaces_what_was_set_and_is_replaced_by_what_is(model):
    talk, _ = session(model, steps=16, temperature=0.5)
    talk.start_from("long")
    assert (talk.config.steps, talk.config.max_new_tokens, talk.config.temperature) == (128, 128, 0.5)
    talk.set(steps=32)
    assert talk.config == model.config("long", steps=32, temperature=0.5)
    talk.unset("temperature")
    assert talk.config == model.config("long", steps=32)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"stepz": 3}, {"remasking": "random", "commit": "factor"}, {"suppress_tokens": (10**6,)}]
)
def test_an_option_that_is_not_allowed_changes_nothing(model, options):
    talk, _ = session(model)
    with pytest.raises(OptionError):
        talk.set(**options)
    assert talk.config == model.config()


def test_a_talk_is_saved_in_the_form_of_its_name(model):
    talk, _ = session(model, system="Kısa.")
    talk.ask(QUESTIONS[0])
    messages = [message("system", "Kısa."), message("user", QUESTIONS[0]), message("assistant", "on yedi")]
    assert json.loads(talk.conversation.saved("a.JSON")) == messages
    markdown = "**system**\n\nKısa.\n\n**user**\n\nOn iki artı beş kaç eder?\n\n**assistant**\n\non yedi\n"
    assert talk.conversation.saved("a.b.md") == markdown
    with pytest.raises(InputError, match=r"'talk.txt': the name must end in .json or .md"):
        talk.conversation.saved("talk.txt")
