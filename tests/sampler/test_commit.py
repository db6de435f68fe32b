import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.commit import chosen, entropy_count, factor_count
from diffutron_ort.sampler.predict import Best, Candidates
from diffutron_ort.sampler.random import Stream, uniform


def odds_of(*confidences):
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
    assert factor_count(odds_of(*confidences), factor) == count


def test_factor_knows_odds_that_confidences_cannot_hold():
    odds = np.array([1e-20, 3e-20])
    assert [factor_count(odds, factor) for factor in (1e-20, 5e-20, 1e-19)] == [0, 1, 2]


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
    odds, entropies = np.array([d for d, _ in rows]), np.array([h for _, h in rows])
    assert 0 <= factor_count(odds, low) <= factor_count(odds, high) <= len(rows)
    assert min(1, len(rows)) <= entropy_count(entropies, low) <= entropy_count(entropies, high) <= len(rows)


def candidates(odds, entropies):
    n, odds = len(odds), np.array(odds)
    best = Best(np.arange(n)[:, None], -np.log1p(odds)[:, None])
    return Candidates(
        positions=np.arange(10, 10 + n),
        tokens=np.arange(n),
        odds_against=odds,
        logprobs=best.logprobs[:, 0],
        deciding=odds,
        withheld=np.zeros(n, bool),
        entropies=np.array(entropies),
        expected_misses=0.0,
        kv=None,
        best=best,
    )


@pytest.mark.parametrize(
    ("options", "scheduled", "count"),
    [
        ({}, 1, 1),
        ({"commit": "factor"}, 1, 2),
        ({"commit": "factor"}, 3, 3),
        ({"commit": "factor", "commit_factor": 0.3}, 0, 1),
        ({"commit": "entropy", "commit_entropy": 0.3}, 1, 2),
        ({"commit": "entropy", "commit_entropy": 0.1}, 0, 1),
    ],
)
def test_the_rule_is_the_configured_one_and_adds_to_the_schedule(options, scheduled, count):
    three = candidates(odds_of(0.9, 0.8, 0.7), [1.0, 0.2, 0.3])
    assert chosen(three, scheduled, GenerationConfig(**options), 0, 0, 0).tolist() == [0, 1, 2][:count]


def test_the_most_certain_come_first_and_ties_go_to_the_lowest_position():
    four = candidates([0.5, 0.1, 0.5, 0.2], [0.0] * 4)
    assert chosen(four, 4, GenerationConfig(), 0, 0, 0).tolist() == [1, 3, 0, 2]


def test_a_prediction_whose_token_is_not_known_makes_no_other_surer():
    options = {"commit": "factor"}
    two = candidates(odds_of(0.5, 1 - 1e-9, 0.5, 1 - 1e-9), [1.0, 0.0, 1.0, 0.0])
    two = two._replace(withheld=np.array([False, True, False, True]))
    assert chosen(two, 1, GenerationConfig(**options), 0, 0, 0).tolist() == [0]
    assert chosen(two, 3, GenerationConfig(**options), 0, 0, 0).tolist() == [0, 2, 1]


def test_random_remasking_orders_by_the_uniforms_of_its_own_stream():
    four = candidates([0.5, 0.1, 0.5, 0.2], [0.0] * 4)
    found = chosen(four, 4, GenerationConfig(remasking="random"), 7, 2, 3)
    assert found.tolist() == np.argsort(-uniform(7, Stream.REMASKING, 2, 3, four.positions)).tolist()
