"""The ratio of two sums, and how sure it is."""

import numpy as np
import pytest

from diffutron_ort.perplexity.ratio import Ratio


def ratio(y, x):
    found = Ratio()
    for pair in zip(y, x, strict=True):
        found.add(*pair)
    return found


def test_the_ratio_is_that_of_the_sums():
    found = ratio([1.0, 5.0], [1.0, 2.0])
    assert found.value == 2
    assert found.standard_error == pytest.approx(np.sqrt((1**2 + 1**2) * 2 / 1) / 3)


def test_what_there_is_too_little_for_is_none():
    assert Ratio().value is None
    assert ratio([3.0], [2.0]).value == 1.5
    assert ratio([3.0], [2.0]).standard_error is None
    assert ratio([0.0, 0.0], [0.0, 0.0]).value is None
    assert ratio([4.0, 6.0], [2.0, 3.0]).standard_error == 0


def test_the_standard_error_is_how_much_other_documents_would_change_it():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, (2000, 80)).astype(float)
    nats = lengths * rng.gamma(9, 1 / 3, lengths.shape) + rng.normal(0, 5, lengths.shape)
    found = [ratio(y, x) for y, x in zip(nats, lengths, strict=True)]
    spread = np.std([each.value for each in found])
    told = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert told == pytest.approx(spread, rel=0.06)
