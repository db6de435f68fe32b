"""Results: completions, streams of messages, and settled text as a client reads it."""

import dataclasses

import numpy as np
import pytest

from diffutron_ort import Completion, Step
from diffutron_ort.completion import Passes
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.scoring.probe import Probe, probed
from diffutron_ort.scoring.work import finished
from diffutron_ort.text.stopping import StopRule
from tests.fakes import scripted

QUESTION = "On iki artı beş kaç eder?"
LIST = "Ters sırala: kitap, deniz, okul, elma"
CHAT = [{"role": "system", "content": "Kısa yanıtla."}, {"role": "user", "content": QUESTION}]


@pytest.mark.parametrize("options", [{}, {"preset": "fast"}, {"early_end": False}, {"cache": "block"}, {"steps": 5}])
def test_a_completion_counts_what_the_steps_did(model, options):
    found, steps = model.complete(QUESTION, **options), list(model.stream(QUESTION, **options))
    last = steps[-1]
    assert found.text == last.text == model.generate(QUESTION, **options)
    np.testing.assert_array_equal(found.ids, last.ids[last.start :])
    assert (found.prompt_tokens, found.steps) == (last.start, len(steps))
    full = [step for step in steps if step.num_computed == len(step.ids)]
    computed, predicted = (sum(getattr(s, name) for s in steps) for name in ("num_computed", "num_predicted"))
    assert found.passes == Passes(len(full), len(steps) - len(full), computed, predicted)
    assert found.masks_left == last.masks_left


def test_it_says_why_the_answer_ended(model):
    assert model.complete(QUESTION).finish_reason == "stop"
    assert model.complete(LIST, max_new_tokens=3).finish_reason == "length"
    cut = model.complete(LIST, stop=" okul")
    assert (cut.text, cut.finish_reason) == ("elma,", "stop")
    assert cut.completion_tokens == len(model.tokenizer.encode("elma,"))


def test_an_answers_tokens_end_where_it_does(model):
    bundle = model.bundle
    text, stop = model.tokenizer.encode("on yedi"), list(bundle.stop_sequences[0][1])
    pad, eos, mask = bundle.special.pad, bundle.special.eos, bundle.special.mask
    rule = StopRule(model.tokenizer, bundle.special, bundle.stop_sequences)
    for tail in ([], [pad, 9], [eos, 9], [*stop, 9], [mask, mask]):
        positions, stopped = rule.ending(np.array([5, *text, *tail]), 1)
        assert positions.tolist() == list(range(1, 1 + len(text)))
        assert stopped is (tail not in ([], [mask, mask]))


def test_its_tokens_and_confidence_are_the_answers(model):
    scripted_model, says = scripted(model, "on yedi")
    found = scripted_model.complete("x", temperature=0.0)
    tokens = len(model.tokenizer.encode("on yedi"))
    assert (found.text, found.completion_tokens) == ("on yedi", tokens)
    assert says.passes == found.steps == found.passes.full
    rest = (model.bundle.vocab_size - 1) * np.exp(-20.0)
    assert found.mean_confidence == pytest.approx(1 / (1 + rest))
    assert found.least_confidence == pytest.approx(1 / (1 + rest))


def test_the_least_confidence_is_that_of_the_answers_least_certain_token(model):
    steps = list(model.stream(LIST, early_end=False))
    last, confidence = steps[-1], {}
    for step in steps:
        confidence |= zip(step.positions.tolist(), step.confidence.tolist(), strict=True)
    found = model.complete(LIST, early_end=False)
    own = [confidence[last.start + i] for i in range(found.completion_tokens)]
    assert found.least_confidence == min(own)
    assert found.mean_confidence == pytest.approx(sum(own) / len(own))


def test_an_empty_answer_has_no_confidence(model):
    empty, _ = scripted(model, "")
    found = empty.complete("x", temperature=0.0)
    assert (found.text, found.completion_tokens, found.finish_reason) == ("", 0, "stop")
    assert found.mean_confidence is found.least_confidence is None


def test_a_list_has_a_completion_each_in_order(model):
    prompts = [LIST, QUESTION, CHAT, "x"]
    found = model.complete(prompts, temperature=0.3, seed=4)
    for i, (one, prompt) in enumerate(zip(found, prompts, strict=True)):
        alone = model.complete(prompt, temperature=0.3, seed=4 + i)
        assert (one.text, one.ids.tolist(), one.steps) == (alone.text, alone.ids.tolist(), alone.steps)


def test_generate_gives_completions_when_asked_for_details(model):
    found = model.generate(QUESTION, details=True)
    assert isinstance(found, Completion)
    assert [one.text for one in model.generate([QUESTION, LIST], details=True)] == model.generate([QUESTION, LIST])


def test_no_steps_are_no_completion():
    with pytest.raises(InputError, match="there is no step"):
        Completion.of([])


@pytest.mark.parametrize("index", [0, 2])
def test_an_error_in_a_list_names_the_prompt(model, index):
    chats = [CHAT, CHAT, CHAT]
    for bad in ([{"role": "robot", "content": "x"}], "on " * 400):
        prompts = [*chats[:index], bad, *chats[index:]]
        with pytest.raises(InputError, match=f"^prompt {index}"):
            model.complete(prompts)


def test_messages_are_answered_alike_everywhere(model):
    answer = model.chat(CHAT)
    assert model.complete(CHAT).text == answer
    steps, chat = list(model.stream(CHAT)), list(model.chat(CHAT, stream=True))
    assert steps[-1].text == chat[-1].text == answer
    assert [step.ids.tolist() for step in steps] == [step.ids.tolist() for step in chat]
    assert all(isinstance(step, Step) for step in chat)


@pytest.mark.parametrize("prompt", [None, 3, [], b"x", {"role": "user"}, [3], [QUESTION, 3], [[]]])
def test_what_is_no_prompt_is_refused(model, prompt):
    with pytest.raises(InputError):
        model.complete(prompt)


def test_messages_are_not_raw_text(model):
    with pytest.raises(InputError, match="must be a string"):
        model.stream(CHAT, template=False)


def test_a_stream_refuses_before_its_first_step(model):
    with pytest.raises(OptionError):
        model.chat(CHAT, stream=True, steps=0)
    with pytest.raises(InputError):
        model.stream([{"role": "robot", "content": "x"}])


@pytest.mark.parametrize("options", [{}, {"block_length": 4}, {"stop": ("niz", " okul, z")}, {"template": False}])
def test_settled_text_is_appended_to_and_ends_as_the_answer(model, options):
    for temperature in (0.0, 0.8):
        shown = ""
        for step in model.stream(LIST, temperature=temperature, **options):
            assert step.settled.startswith(shown)
            shown = step.settled
            assert step.is_last or not shown.endswith(("\N{REPLACEMENT CHARACTER}", " "))
        assert shown == model.generate(LIST, temperature=temperature, **options)


def test_a_completion_cannot_be_changed_and_shows_itself(model):
    found = model.complete(QUESTION)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.text = "x"
    assert str(found) == "on yedi"
    page = dataclasses.replace(found, text="<b>1 & 2</b>")._repr_html_()
    assert "&lt;b&gt;1 &amp; 2&lt;/b&gt;" in page
    assert "<b>" not in page
    assert f"{found.prompt_tokens} + {found.completion_tokens} tokens" in page


def test_messages_given_to_generate_are_sent_to_chat(model):
    with pytest.raises(InputError, match="give messages to chat"):
        model.generate(CHAT)


def test_a_model_says_what_it_is_and_a_step_is_short(model):
    assert repr(model).startswith("<Diffutron nano: fp32 on cpu, ")
    step = next(model.stream(QUESTION))
    assert len(repr(step)) < 250


def test_the_model_says_how_sure_it_is_of_its_own_answer(model):
    found = model.complete(QUESTION, self_confidence=True)
    assert 0.9 < found.self_confidence <= 1
    assert model.complete(QUESTION).self_confidence is None
    start, mask = found.prompt_tokens, model.bundle.special.mask
    canvas = np.append(model._prompts.canvas(QUESTION, True, model.config()).ids[:start], found.ids)
    assert mask in canvas, "the answer has ended early, and what follows stays masked"
    own = np.arange(start, start + found.completion_tokens)
    [said] = finished(probed(model.forward, [Probe(canvas, own, canvas[own, None])]))
    assert found.self_confidence == pytest.approx(np.exp(said.logprobs.mean()))


def test_the_surest_of_several_answers_is_kept(model):
    prompts, options = [LIST, QUESTION], {"temperature": 1.5, "seed": 4}
    best = model.complete(prompts, best_of=5, **options)
    for i, (prompt, kept) in enumerate(zip(prompts, best, strict=True)):
        each = [model.complete(prompt, self_confidence=True, **(options | {"seed": 4 + i + j})) for j in range(5)]
        sure = max(each, key=lambda one: -1 if one.self_confidence is None else one.self_confidence)
        assert (kept.text, kept.self_confidence) == (sure.text, pytest.approx(sure.self_confidence))
    assert model.generate(prompts, best_of=5, **options) == [kept.text for kept in best]


def test_an_answer_without_a_token_is_never_the_surest(model):
    empty, _ = scripted(model, "")
    assert empty.complete("x", temperature=0.0, self_confidence=True).self_confidence is None


@pytest.mark.parametrize(
    ("best_of", "options"), [(0, {}), (True, {}), (2.0, {}), (257, {}), ("2", {}), (2, {"temperature": 0})]
)
def test_a_number_of_answers_that_makes_no_sense_is_refused(best_of, options, model):
    with pytest.raises(OptionError, match="best_of="):
        model.generate(QUESTION, best_of=best_of, **({"temperature": 1.0} | options))
