"""Scores through the model: what is a text, what is its context, and what does not fit."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.scoring import bound
from diffutron_ort.scoring.passage import split, windows
from diffutron_ort.scoring.work import finished
from diffutron_ort.text.words import word_numbers

QUESTION = "On iki artı beş kaç eder?"
METHODS = ["policy", "elbo", "pll", "pll_word_l2r"]
CAPITAL = "Türkiye'nin başkenti Ankara şehridir."


class Recording:
    """A model that keeps what it was asked, each question alone."""

    def __init__(self, forward):
        self.forward, self.batch_invariant, self.asked = forward, False, []

    def __call__(self, given):
        self.asked.append(given)
        return self.forward(given)


@pytest.fixture(scope="module")
def int8():
    return Diffutron.from_pretrained(variant="int8")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 16},
        {"early_end": False, "max_new_tokens": 40, "block_length": 8},
        {"preset": "fast", "max_new_tokens": 40, "early_end": False},
        {"repetition_penalty": 1.3, "max_new_tokens": 24},
        {"remasking": "random", "seed": 5, "max_new_tokens": 16},
        {"cfg_scale": 0.5, "max_new_tokens": 16},
        {"suppress_tokens": (20, 21), "max_new_tokens": 16},
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_samplers_own_answer_is_worth_what_its_steps_gave(variant, options, model, int8):
    model = {"fp32": model, "int8": int8}[variant] if variant == "int8" else Diffutron.from_pretrained(variant="fp32")
    steps = list(model.stream(QUESTION, temperature=0, **options))
    written = {"ids": steps[-1].ids[steps[-1].start :], "context": QUESTION}
    ours = {name: value for name, value in options.items() if name not in ("early_end", "max_new_tokens")}
    found = model.score(written["ids"], written["context"], template=True, **ours)
    expected = sum(np.log(step.confidence).sum() for step in steps)
    assert found.logprob == pytest.approx(expected, abs=1e-9)
    assert found.passes == len(steps)
    assert found.tokens == sum(len(step.positions) for step in steps)


@pytest.mark.parametrize("method", METHODS)
def test_the_right_answer_is_likelier(method, model):
    right, wrong = model.score(["on yedi", "on sekiz"], QUESTION, template=True, method=method)
    assert right.logprob > -0.1 > -5 > wrong.logprob
    assert right.logprob == pytest.approx(model.score("on yedi", QUESTION, template=True, method=method).logprob)
    assert (right.standard_error is not None) == (method == "elbo")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_certain(method, model):
    found = model.score("", CAPITAL, method=method)
    assert (found.logprob, found.tokens, found.passes, found.bytes) == (0, 0, 0, 0)
    assert found.perplexity is found.bits_per_byte is found.nats_per_token is None
    assert model.score([], CAPITAL, method=method) == []


def test_a_token_across_the_join_belongs_to_the_text(model):
    whole = model.tokenizer.encode(CAPITAL)
    found = model.score("ara şehridir.", "Türkiye'nin başkenti Ank")
    assert [*found.ids] == whole[-found.tokens :]
    pieces = [model.tokenizer.piece(i) for i in found.ids.tolist()]
    assert found.joined == (pieces[0] != "ara")
    joined = model.score("i", "Türkiye'nin başkent")
    assert joined.joined
    assert model.tokenizer.decode(joined.ids.tolist()).endswith("i")
    assert joined.bytes == 1


def test_where_texts_join():
    assert split([1, 2, 3], [1, 2, 3, 4]) == (3, False)
    assert split([1, 2, 3], [1, 2, 9, 4]) == (2, True)
    assert split([1, 2, 3], [1, 2]) == (2, True)
    assert split([], [1]) == (0, False)


@pytest.mark.parametrize("method", METHODS)
def test_masks_among_given_ids_are_not_scored(method, model):
    mask = model.bundle.special.mask
    ids = model.tokenizer.encode(CAPITAL)
    found = model.score([*ids[5:7], mask, *ids[8:]], [mask, *ids[1:5]], method=method)
    assert found.ids.tolist() == [*ids[5:7], *ids[8:]]
    assert np.isfinite(found.logprobs).all()


@pytest.mark.parametrize("method", METHODS)
def test_masks_alone_are_nothing_to_score(method, model):
    mask = model.bundle.special.mask
    nothing, one = model.score([[mask, mask], [mask, 9]], [mask, 7], method=method)
    assert (nothing.logprob, nothing.tokens, nothing.passes, one.tokens) == (0, 0, 0, 1)
    assert model.score([mask], method=method).logprob == 0


def test_typed_masks_are_text(model):
    assert model.bundle.special.mask not in model.score("<mask>", "<mask><mask>").ids


def test_windows_score_each_position_once():
    for length, start, most, stride in [(10, 0, 4, 2), (10, 3, 4, 2), (9, 8, 4, 3), (5, 0, 8, 4), (20, 6, 8, 8)]:
        found = list(windows(length, start, most, stride))
        assert [i for window in found for i in range(window.first, window.end)] == list(range(start, length))
        assert all(window.end - window.begin <= most for window in found)
        assert all(window.begin == 0 or window.end - window.begin == most for window in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_text_beyond_the_context_is_scored_whole(method, model):
    short = Diffutron(replace(model.bundle, context_length=32), model.tokenizer, model.forward)
    text = " ".join([CAPITAL] * 12)
    found = short.score(text, method=method, samples=4)
    assert found.tokens == len(model.tokenizer.encode(text)) > 64
    assert found.bytes == len(text.encode())
    assert (found.context_tokens, found.context_cut) == (0, 0)


def test_a_context_that_leaves_no_room_is_cut_and_that_is_said(model):
    context = " ".join([CAPITAL] * 40)
    tokens = len(model.tokenizer.encode(context))
    found = model.score(" " + CAPITAL, context)
    assert found.context_tokens + found.tokens == 256
    assert found.context_cut == tokens - found.context_tokens > 0
    assert model.score(CAPITAL, "Evet. ").context_cut == 0


def test_each_text_has_its_own_seed_and_context(model):
    texts, contexts = ["Ankara", "Ankara şehri"], ["Türkiye'nin başkenti ", ""]
    several = model.score(texts, contexts, method="elbo", samples=8, seed=3)
    alone = [model.score(text, context, method="elbo", samples=8, seed=3 + i) for i, (text, context) in
             enumerate(zip(texts, contexts, strict=True))]  # fmt: skip
    assert [one.logprob for one in several] == pytest.approx([one.logprob for one in alone], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_no_whole_logits_leave_the_graph(method, int8):
    recording = Recording(int8.forward)
    watched = Diffutron(int8.bundle, int8.tokenizer, recording)
    found = watched.score("on yedi", QUESTION, template=True, method=method, samples=6)
    assert len(recording.asked) == found.passes == {"policy": 5, "elbo": 6}.get(method, 5)
    assert not any(given.want_logits or given.return_kv for given in recording.asked)
    assert {given.target_ids.shape[1] for given in recording.asked} == {1}


@pytest.mark.parametrize("method", METHODS)
def test_a_work_runs_one_pass_at_a_time(method, model):
    recording = Recording(model.forward)
    recording.batch_invariant = True
    watched = Diffutron(model.bundle, model.tokenizer, recording)
    for count, _ in enumerate(watched.scoring([CAPITAL] * 9, method=method, samples=40), 1):
        assert len(recording.asked) == count


def test_many_samples_of_many_texts_are_not_drawn_at_once(model, monkeypatch):
    drawn = []
    masks = bound.masks
    monkeypatch.setattr(bound, "masks", lambda *given: drawn.append(given) or masks(*given))
    next(model.scoring([[10, 11]] * 12, method="elbo", samples=2048))
    assert len(drawn) == 2


def test_work_tells_how_much_is_done_and_can_be_dropped(model):
    work = model.scoring(CAPITAL, method="elbo", samples=128)
    done = [next(work)]
    work.close()
    other = model.scoring([CAPITAL] * 3, method="elbo", samples=128)
    done = list(other)
    assert done == sorted(done)
    assert done[-1] == 1
    assert len(finished(model.scoring([CAPITAL] * 40, method="pll"))) == 40


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "guess"}, OptionError, "must be one of policy, elbo, pll, pll_word_l2r"),
        ({"method": ["pll"]}, OptionError, "method=.*must be one of policy"),
        ({"text": np.zeros((2, 2), int)}, InputError, r"^the text is [^\n]*$"),
        ({"samples": 1}, OptionError, "samples=1: must be an integer from 2"),
        ({"stride": 0}, OptionError, "stride=0: must be an integer from 1 to 256"),
        ({"stride": True}, OptionError, "stride=True"),
        ({"temperature": 0.5}, OptionError, "temperature=0.5: must be 0"),
        ({"max_new_tokens": 5}, OptionError, "max_new_tokens: of no meaning"),
        ({"method": "elbo", "steps": 5}, OptionError, "steps: of no meaning for the method 'elbo'"),
        ({"method": "pll", "preset": "fast"}, OptionError, "preset: of no meaning"),
        ({"stepps": 5}, OptionError, "stepps"),
        ({"text": 5}, InputError, "the text is 5"),
        ({"text": ["a", 5]}, InputError, "text 1 is 5"),
        ({"text": [5, 10**6]}, InputError, "the text holds 1000000"),
        ({"text": "\ud800"}, InputError, "surrogate"),
        ({"context": None}, InputError, "the context is None"),
        ({"context": "", "template": True}, InputError, "the context has no text"),
        ({"text": ["a", "b"], "context": ["a", "b", "c"]}, InputError, "there are 3 contexts for 2 texts"),
    ],
    ids=str,
)
def test_what_cannot_be_scored_is_refused(arguments, error, message, model):
    with pytest.raises(error, match=message):
        model.score(**({"text": "Ankara"} | arguments))


def test_a_perplexity_beyond_floating_point_is_infinite_and_no_warning(model):
    found = replace(model.score("Ankara", method="pll"), logprob=-1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.perplexity == math.inf


def test_words():
    pieces = ["▁Türkiye", "'", "nin", "▁baş", "kenti", ".", "▁", "<0xC3>", "<0xA7>", "▁12", "-", "5", "\n"]
    assert word_numbers(pieces).tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8]
