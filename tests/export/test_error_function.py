"""The error function against the standard library's."""

import math

import numpy as np
import pytest

from diffutron_ort_export.check.error_function import BLOCK, erf

VALUES = np.concatenate([np.linspace(-7, 7, 3 * BLOCK + 5), [1e-300, -1e-20, 1e-8, 5.9999999, 6, 1e300, -1e300]])


@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 1e-15), (np.float32, 4e-7)])
def test_it_is_the_standard_librarys(dtype: type[np.floating], most: float) -> None:
    with np.errstate(over="ignore"):
        x = VALUES.astype(dtype)
    expected = np.array([math.erf(value) for value in x.tolist()])
    found = erf(x)
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= most


def test_it_is_odd_and_ends_at_1() -> None:
    x = np.array([0.5, 3, 8, np.inf])
    np.testing.assert_array_equal(erf(-x), -erf(x))
    assert erf(x)[2:].tolist() == [1, 1]
    assert abs(erf(np.zeros(1))[0]) < 1e-15
    assert np.isnan(erf(np.array([np.nan]))).all()


def test_any_shape_and_no_value() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 7))
    np.testing.assert_array_equal(erf(x.transpose(2, 0, 1)), erf(x).transpose(2, 0, 1))
    assert erf(np.zeros((0, 4))).shape == (0, 4)
