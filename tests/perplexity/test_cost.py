"""What scoring takes: as many passes as the method needs, and never the logits of a whole vocabulary."""

import gc
import warnings
from dataclasses import replace

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.scoring import scorer
from diffutron_ort.scoring.probe import Probe
from tests.fakes import Says, invariant

LENGTH = 64


class Counted:
    """The model's graph; it keeps what it was given, and the sizes of what it returned."""

    def __init__(self, forward, batch_invariant):
        self.forward, self.batch_invariant = forward, batch_invariant
        self.given, self.returned = [], []

    def __call__(self, given):
        found = self.forward(given)
        self.given.append(given)
        self.returned.append(max(value.size for value in vars(found).values() if isinstance(value, np.ndarray)))
        return found


def scored(model, ids, batch_invariant, **how):
    counted = Counted(model.forward, batch_invariant)
    score = Diffutron(model.bundle, model.tokenizer, counted).score(ids, **how)
    return score, counted


def speechless(model):
    """Return a model that can write no token of a text."""

    def never(given):
        found = model.forward(given)
        return replace(found, target_logits=np.full_like(found.target_logits, -np.inf))

    return Diffutron(model.bundle, model.tokenizer, invariant(never))


@pytest.fixture(scope="module")
def ids(model):
    return np.random.default_rng(0).integers(300, model.bundle.vocab_size - 100, LENGTH)


@pytest.mark.parametrize(
    ("how", "passes", "rows"),
    [
        ({"method": "pll"}, LENGTH, LENGTH),
        ({"method": "pll_word_l2r"}, LENGTH, LENGTH),
        ({"method": "elbo", "samples": 8}, 8, None),
        ({"method": "policy", "steps": LENGTH}, LENGTH, None),
    ],
)
def test_a_text_takes_as_many_passes_as_the_method_needs_and_no_logits(model, ids, how, passes, rows):
    score, counted = scored(model, ids, False, **how)
    assert len(counted.given) == score.passes == passes
    assert not any(given.want_logits or given.want_entropy for given in counted.given)
    assert all(given.target_ids.shape[1] <= 1 for given in counted.given)
    assert rows in (None, sum(len(given.rows) for given in counted.given))
    assert max(counted.returned) <= 64 * LENGTH  # the best candidates of each row


def test_sequences_share_passes_where_they_may(model, ids):
    score, counted = scored(model, ids, True, method="pll")
    assert len(counted.given) == LENGTH * LENGTH // 2048
    alone, _ = scored(model, ids, False, method="pll")
    np.testing.assert_allclose(score.logprobs, alone.logprobs, atol=1e-4)


@pytest.mark.parametrize("how", [{"method": "pll"}, {"method": "elbo", "samples": 4}])
def test_the_passes_of_a_long_text_are_prepared_a_few_windows_at_a_time(model, monkeypatch, how):
    says = Says(*[9] * model.bundle.context_length, vocab=model.bundle.vocab_size)
    fake = Diffutron(model.bundle, model.tokenizer, says)
    ids = np.full(800, 9)
    whole = fake.score(ids, stride=20, **how)
    monkeypatch.setattr(scorer, "TOGETHER", 2)
    work, most, shares = fake.scoring(ids, stride=20, **how), 0, []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            [score] = end.value
            break
        most = max(most, sum(isinstance(held, Probe) for held in gc.get_objects()) if len(shares) < 5 else 0)
    assert most <= model.bundle.context_length + 20
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert score.logprob == pytest.approx(whole.logprob)
    assert score.tokens == 800


def test_a_token_that_cannot_be_written_is_no_warning(model):
    never = speechless(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = never.score("Salı günü", method="elbo", samples=4)
    assert score.logprob == -np.inf
    assert not np.isfinite(score.standard_error)
