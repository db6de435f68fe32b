import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffutron_ort.sampler.random import UNIFORM_VECTORS, uniform, uniform_hash
from diffutron_ort.sampler.sampling import (
    confidence,
    draw,
    draw_beyond,
    guide,
    missing_mass,
    odds_against,
    penalise,
    reduce_logits,
)

QUARTERS = np.log(np.array([[0.125, 0.5, 0.25, 0.125]], np.float32))


@pytest.mark.parametrize(("where", "expected"), UNIFORM_VECTORS)
def test_hash_has_the_published_values(where, expected):
    *words, position = where
    assert uniform_hash(*words, np.array([position])) == expected


def test_uniforms_are_uniform_and_differ_between_streams():
    positions = np.arange(20000)
    u, v = (uniform(7, stream, 0, 0, positions) for stream in (0, 1))
    assert stats.kstest(u, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.03
    assert u.min() >= 0
    assert u.max() < 1


def test_penalty_divides_what_is_likely_and_multiplies_what_is_not():
    logits = np.array([[3.0, -2.0, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(penalise(logits, np.array([0, 1, 2, 1]), 2.0), [[1.5, -4.0, 0.0, 1.0]])
    np.testing.assert_array_equal(logits, [[3.0, -2.0, 0.0, 1.0]])


def test_guidance_moves_away_from_the_unconditional():
    np.testing.assert_array_equal(guide(np.float32([[2.0]]), np.float32([[1.0]]), 0.5), [[2.5]])


def test_reductions_of_a_distribution_in_quarters():
    reduced = reduce_logits(QUARTERS, temperature=0.5, candidates=2)
    np.testing.assert_array_equal(reduced.top_ids, [[1, 2]])
    np.testing.assert_allclose(reduced.rest, [1.0], rtol=1e-6)  # (1/4 + 1/8 + 1/8) / (1/2)
    np.testing.assert_allclose(reduced.rest_tempered, [0.25 + 2 / 16], rtol=1e-6)
    np.testing.assert_allclose(reduced.entropy, stats.entropy([0.5, 0.25, 0.125, 0.125]), rtol=1e-6)


def test_equal_logits_are_ordered_by_id():
    row = np.zeros((1, 100), np.float32)
    row[0, [40, 70]] = 1
    np.testing.assert_array_equal(reduce_logits(row, 1.0, 5).top_ids, [[40, 70, 0, 1, 2]])


def test_reductions_bear_suppressed_tokens():
    row = np.array([[1.0, -np.inf, 0.0]], np.float32)
    with np.errstate(all="raise"):
        reduced = reduce_logits(row, 0.5)
    np.testing.assert_allclose(reduced.rest, np.exp(-1.0), rtol=1e-6)
    assert np.isfinite(reduced.entropy).all()


def test_odds_tell_confidences_apart_that_float32_cannot():
    rest = np.float32([1e-9, 1e-8])
    best = np.float32([5.0, 5.0])
    np.testing.assert_allclose(odds_against(best, best, rest), [1e-9, 1e-8], rtol=1e-6)


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12), st.data())
def test_confidence_is_the_softmax_of_the_chosen(values, data):
    logits = np.array([values], np.float32)
    chosen = data.draw(st.integers(0, len(values) - 1))
    reduced = reduce_logits(logits, 1.0)
    wide = np.exp(logits[0].astype(np.float64) - logits.max())
    odds = odds_against(logits[:, chosen], reduced.top_logits[:, 0], reduced.rest)
    np.testing.assert_allclose(confidence(odds), wide[chosen] / wide.sum(), rtol=1e-6)


def test_draw_walks_the_candidates_best_first():
    reduced = reduce_logits(QUARTERS, temperature=1.0)  # 1/2, 1/4, 1/8, 1/8 of ids 1, 2, 0, 3
    for u, place in [(0.0, 0), (0.49, 0), (0.51, 1), (0.74, 1), (0.76, 2), (0.99, 3)]:
        assert draw(reduced, 1.0, np.array([u])) == place


def test_draw_beyond_goes_on_by_ascending_id():
    reduced = reduce_logits(QUARTERS, temperature=1.0, candidates=1)
    np.testing.assert_allclose(missing_mass(reduced, 1.0), 0.5, rtol=1e-6)
    assert draw(reduced, 1.0, np.array([0.6])) == 1  # beyond the only candidate
    for u, token in [(0.51, 0), (0.62, 0), (0.63, 2), (0.87, 2), (0.88, 3), (1.0, 3)]:
        assert draw_beyond(QUARTERS[0], 1.0, u, 1 + float(reduced.rest_tempered[0]), reduced.top_ids[0]) == token


def test_a_draw_that_overshoots_takes_the_last_candidate_that_is_not_suppressed():
    logits = np.array([2.0, -np.inf, 1.0, -np.inf], np.float32)
    assert draw_beyond(logits, 1.0, 1.0, 1.0, np.array([0, 2, 1, 3])) == 2


def sample(logits, temperature, candidates, count):
    """Return `count` tokens drawn from one row of logits, by the candidates and, beyond them, the whole row."""
    u = uniform(3, 0, 0, 0, np.arange(count))
    reduced = reduce_logits(logits[None], temperature, candidates)
    repeated = type(reduced)(*(np.repeat(value, count, axis=0) for value in list(vars(reduced).values())[:6]))
    choice = draw(repeated, temperature, u)
    total = 1 + float(reduced.rest_tempered[0])
    return [
        int(reduced.top_ids[0, c])
        if c < candidates
        else draw_beyond(logits, temperature, float(v), total, reduced.top_ids[0])
        for c, v in zip(choice, u, strict=True)
    ]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("vocabulary", [20, 200])  # all are candidates; most of the mass lies beyond the 64
def test_frequencies_fit_the_tempered_softmax(temperature, vocabulary):
    logits = np.random.default_rng(0).normal(size=vocabulary).astype(np.float32)
    count = 40000
    drawn = np.bincount(sample(logits, temperature, min(64, vocabulary), count), minlength=vocabulary)
    weights = np.exp(logits.astype(np.float64) / temperature)
    expected = count * weights / weights.sum()
    common = expected >= 5
    observed = [*drawn[common], drawn[~common].sum() + 1e-9]
    assert stats.chisquare(observed, [*expected[common], expected[~common].sum() + 1e-9]).pvalue > 0.001
