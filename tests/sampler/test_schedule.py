import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffutron_ort.sampler.schedule import (
    binomial_quantile,
    commit_counts,
    drawn_counts,
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
