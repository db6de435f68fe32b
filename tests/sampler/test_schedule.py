import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.schedule import (
    binomial_quantile,
    commit_counts,
    drawn_counts,
    entropy_count,
    factor_count,
    sure_count,
    transfer_probability,
)

pairs = (st.integers(0, 300), st.integers(1, 300), st.sampled_from(["linear", "cosine"]))


@pytest.mark.parametrize(
    ("masks", "steps", "counts"),
    [
        (32, 16, [2] * 16),
        (32, 64, [1] * 32),  # steps that would commit nothing are left out
        (10, 3, [3, 3, 4]),
        (7, 5, [1, 2, 1, 2, 1]),  # halves are rounded to even
        (4, 3, [1, 1, 2]),  # the same formula in float64 gives 1, 2, 1
        (0, 5, []),
    ],
)
def test_counts_one_can_check_by_hand(masks, steps, counts):
    assert commit_counts(masks, steps) == counts


def test_cosine_starts_slowly():
    assert commit_counts(10, 4, "cosine") == [1, 2, 3, 4]


@given(*pairs)
def test_counts_sum_to_the_masks(masks, steps, schedule):
    counts = commit_counts(masks, steps, schedule)
    assert sum(counts) == masks
    assert all(count > 0 for count in counts)
    assert len(counts) <= steps


@given(*pairs, st.integers(0, 2**64 - 1))
def test_drawn_counts_sum_to_the_masks(masks, steps, schedule, seed):
    counts = drawn_counts(masks, steps, schedule, seed=seed, block=0)
    assert sum(counts) == masks
    assert all(count > 0 for count in counts)


def test_drawn_counts_scatter_around_the_rounded_ones():
    first = np.array([drawn_counts(32, 4, "linear", seed=seed, block=0)[0] for seed in range(2000)])
    expected = stats.binom(32, transfer_probability(0, 4, "linear"))
    assert abs(first.mean() - expected.mean()) < 4 * expected.std() / 2000**0.5
    assert abs(first.std() / expected.std() - 1) < 0.1


@given(st.integers(1, 400), st.floats(0.001, 0.999), st.floats(0, 0.9999))
def test_binomial_quantile_inverts_the_distribution(trials, probability, u):
    k = binomial_quantile(trials, probability, u)
    below, at = stats.binom.cdf([k - 1, k], trials, probability)
    assert below <= u + 1e-9
    assert at >= u - 1e-9


def test_binomial_of_many_trials_does_not_underflow():
    assert 4000 < binomial_quantile(8192, 0.5, 0.5) < 4200


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_last_step_takes_what_is_left(schedule):
    assert transfer_probability(6, 7, schedule) == 1.0


def doubts_of(*confidences):
    return np.array([(1 - c) / c for c in confidences])


@pytest.mark.parametrize(
    ("confidences", "factor", "count"),
    [
        ((0.9, 0.8, 0.7, 0.6), 1.0, 2),  # 2 * 0.1, 3 * 0.2, 4 * 0.3 = 1.2 is too much
        ((0.9, 0.8, 0.74, 0.6), 1.1, 3),  # 4 * 0.26 = 1.04
        ((0.9, 0.8, 0.7, 0.6), 0.5, 1),
        ((0.9, 0.8), 0.15, 0),
        ((0.9, 0.8), 0.0, 0),
        ((1.0, 1.0), 0.0, 0),
        ((1e-300, 1e-300), 1000.0, 2),
        ((), 1.0, 0),
    ],
)
def test_factor_by_hand(confidences, factor, count):
    assert factor_count(doubts_of(*confidences), factor) == count


def test_factor_knows_doubts_that_confidences_cannot_hold():
    doubts = np.array([1e-20, 3e-20])
    assert [factor_count(doubts, factor) for factor in (1e-20, 5e-20, 1e-19)] == [0, 1, 2]


def test_factor_bears_a_token_that_is_all_but_impossible():
    with np.errstate(all="raise"):
        assert factor_count(np.array([0.1, np.inf]), 1.0) == 1


@pytest.mark.parametrize(
    ("entropies", "bound", "count"),
    [
        ((0.05, 0.06, 0.2, 0.3), 0.1, 2),  # 0, 0.05, 0.11 is too much
        ((0.05, 0.06, 0.2, 0.3), 0.12, 3),
        ((0.05, 0.06, 0.2, 0.3), 0.32, 4),
        ((0.3, 0.05, 0.06), 0.06, 2),  # the largest is left out wherever it stands: 0, 0.05, 0.11
        ((5.0, 5.0), 0.1, 1),
        ((0.0, 0.0, 7.0, 0.0), 0.0, 4),
        ((-1e-8, 0.5, 0.0), 0.0, 3),
        ((), 0.1, 0),
    ],
)
def test_entropy_by_hand(entropies, bound, count):
    assert entropy_count(np.array(entropies, np.float32), bound) == count


sure_rows = st.lists(st.tuples(st.floats(1e-12, 1e6), st.floats(0, 12)), max_size=12).map(sorted)


@given(sure_rows, st.floats(0, 5), st.floats(0, 5))
def test_a_larger_threshold_never_commits_less(rows, a, b):
    low, high = sorted((a, b))
    doubts, entropies = np.array([d for d, _ in rows]), np.array([h for _, h in rows])
    assert 0 <= factor_count(doubts, low) <= factor_count(doubts, high) <= len(rows)
    assert min(1, len(rows)) <= entropy_count(entropies, low) <= entropy_count(entropies, high) <= len(rows)


def test_the_rule_is_the_configured_one():
    doubts, entropies = doubts_of(0.9, 0.8, 0.7), np.array([1.0, 0.2, 0.3])
    for options, count in [({}, 0), ({"commit": "factor"}, 2), ({"commit": "entropy", "commit_entropy": 0.3}, 2)]:
        assert sure_count(doubts, entropies, GenerationConfig(**options)) == count
    assert sure_count(doubts, entropies, GenerationConfig(commit="factor", commit_factor=0.3)) == 1
    assert sure_count(doubts, entropies, GenerationConfig(commit="entropy", commit_entropy=0.1)) == 1
