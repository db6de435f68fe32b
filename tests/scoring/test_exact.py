"""The methods against enumeration: a model of seven tokens, and the graph of the tiny checkpoint."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffutron_ort import Diffutron, GenerationConfig
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort.scoring.options import ScoringOptions
from diffutron_ort.scoring.passage import Passage
from diffutron_ort.scoring.scorer import scored
from diffutron_ort.scoring.work import finished
from tests.scoring import exact
from tests.scoring.models import SPECIAL, VOCAB, hashed, row_of

OTHERS = [token for token in range(VOCAB) if token != SPECIAL.mask]
texts = st.tuples(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(OTHERS), max_size=3),
    st.lists(st.sampled_from(OTHERS), min_size=1, max_size=5),
)


def score(forward, context, text, method, *, seed=0, words=None, special=SPECIAL, length=64, samples=128, **options):
    """Return the score of a text."""
    ids = np.array([*context, *text], np.int64)
    words = np.arange(len(ids)) if words is None else np.array(words)
    config = GenerationConfig(**{"temperature": 0, "repetition_penalty": 1.0, **options})
    asked = ScoringOptions(method=method, config=config, context_length=length, samples=samples)
    [found] = finished(scored(forward, special, [Passage(ids, len(context), words, seed=seed)], asked))
    assert found.logprob == pytest.approx(found.logprobs.sum())
    assert found.ids.tolist() == [token for token in text if token != SPECIAL.mask]
    return found


@given(texts, st.integers(1, 8), st.integers(1, 4))
def test_policy_is_the_product_of_what_the_steps_reveal(given_texts, steps, block):
    salt, context, text = given_texts
    forward, logits = hashed(salt)
    blocks = -(-len(text) // block)
    sizes = [min(block, len(text) - i * block) for i in range(blocks)]
    counts = [commit_counts(size, -(-steps // blocks)) for size in sizes]
    found = score(forward, context, text, "policy", steps=steps, block_length=block)
    expected = exact.policy(logits, [*context, *text], len(context), counts, block)
    assert found.logprob == pytest.approx(expected, abs=1e-6)
    assert found.passes == sum(map(len, counts))


OPTIONS = [
    {},
    {"steps": 2},
    {"block_length": 2, "steps": 3},
    {"remasking": "random", "seed": 7},
    {"stochastic_transfer": True, "steps": 2, "seed": 3},
    {"repetition_penalty": 1.4},
    {"commit": "factor", "commit_factor": 3.0},
    {"commit": "entropy", "commit_entropy": 2.0},
    {"suppress_tokens": (3, 5)},
    {"cfg_scale": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_policy_is_a_probability(options):
    """Over all texts of three tokens, it sums to 1: nothing is counted twice, and nothing is left out."""
    forward, _ = hashed(11)
    every = [[*text] for text in product(range(VOCAB), repeat=3)]
    passages = [Passage(np.array([2, 5, *text]), 2, np.arange(5)) for text in every]
    unmasked = [p for p in passages if SPECIAL.mask not in p.ids]
    config = GenerationConfig(**{"temperature": 0, "repetition_penalty": 1.0, **options})
    suppressed = {"suppress_tokens": (*config.suppress_tokens, SPECIAL.mask)}  # it cannot be written for good
    asked = ScoringOptions(method="policy", config=config.replace(**suppressed), context_length=64)
    total = math.fsum(math.exp(one.logprob) for one in finished(scored(forward, SPECIAL, unmasked, asked)))
    assert total == pytest.approx(1, abs=1e-5)


@given(texts)
def test_pseudo_likelihoods_are_enumerated(given_texts):
    salt, context, text = given_texts
    forward, logits = hashed(salt)
    ids, start = [*context, *text], len(context)
    assert score(forward, context, text, "pll").logprob == pytest.approx(exact.pseudo(logits, ids, start), abs=1e-6)
    words = [i // 2 for i in range(len(ids))]
    found = score(forward, context, text, "pll_word_l2r", words=words)
    assert found.logprob == pytest.approx(exact.pseudo(logits, ids, start, words), abs=1e-6)
    assert found.passes == len(text)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_the_bound_is_within_its_standard_errors(length):
    forward, logits = hashed(length)
    context, text = [2, 6], [5, 3, 0, 6, 1][:length]
    expected = exact.bound(logits, [*context, *text], 2)
    for seed in range(20):
        found = score(forward, context, text, "elbo", seed=seed)
        assert abs(found.logprob - expected) <= 3 * found.standard_error + 1e-6, seed
        assert found.passes <= min(128, 2**length - 1)  # samples with the same masks share one


def test_the_bound_is_the_mean_over_orders_and_below_the_likelihood():
    _, logits = hashed(5)
    orders = list(exact.by_order(logits, [2, 6, 5, 3, 0, 6], 2))
    bound = exact.bound(logits, [2, 6, 5, 3, 0, 6], 2)
    assert bound == pytest.approx(math.fsum(orders) / len(orders))
    assert bound < math.log(math.fsum(map(math.exp, orders)) / len(orders))


def test_the_error_of_the_bound_is_what_it_says():
    """Not much larger: the standard error would be worth nothing."""
    forward, logits = hashed(3)
    text = [5, 3, 0, 6, 1, 2, 5, 0]
    expected = exact.bound(logits, text, 0)
    found = [score(forward, [], text, "elbo", seed=seed, samples=32) for seed in range(60)]
    errors = np.array([(one.logprob - expected) / one.standard_error for one in found])
    assert 0.6 < errors.std() < 1.3
    assert abs(errors.mean()) < 0.5


@pytest.fixture(scope="module")
def tiny(tiny_bundle):
    model = Diffutron.from_pretrained(tiny_bundle, variant="fp32")
    return model, row_of(model.forward, model.bundle.vocab_size)


@pytest.mark.exporter
def test_through_the_graph(tiny):
    model, logits = tiny
    prompt, text = [20, 31], [7, 40, 21]
    ids, options = [*prompt, *text], {"block_length": 2, "steps": 4}
    found = model.score(text, prompt, repetition_penalty=1.0, **options)
    assert found.logprob == pytest.approx(exact.policy(logits, ids, 2, [[1, 1], [1]], 2), abs=1e-5)
    assert model.score(text, prompt, method="pll").logprob == pytest.approx(exact.pseudo(logits, ids, 2), abs=1e-5)
    expected = exact.bound(logits, ids, 2)
    for seed in range(20):
        found = model.score(text, prompt, method="elbo", seed=seed)
        assert abs(found.logprob - expected) <= 3 * found.standard_error + 1e-5
