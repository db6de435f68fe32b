"""A choice among ordered levels, which has a mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.brief import brief
from diffutron_ort.choosing.choice import Choice
from diffutron_ort.errors import InputError
from diffutron_ort.scoring.work import Work


@dataclass(frozen=True, eq=False)
class Scale:
    """Where on a scale an answer lies.

    Attributes:
        choice: Among the levels.
        values: float64 [n], the number of each level.
    """

    choice: Choice
    values: NDArray[np.float64]

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels, the lowest first."""
        return self.choice.options

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """float64 [n], of each level; they sum to 1."""
        return self.choice.probabilities

    @property
    def mean(self) -> float:
        """The mean of the values, each weighted by its level's probability."""
        return float(self.probabilities @ self.values)


def level_values(values: Sequence[float] | None, count: int) -> NDArray[np.float64]:
    """Return the numbers [count] of levels: 0, 1, …, or those that were given.

    Raises:
        InputError: They are not as many finite numbers.
    """
    if values is None:
        return np.arange(count, dtype=np.float64)
    is_list = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes | bytearray)
    if not is_list or len(values) != count or not all(map(_is_finite, values)):
        raise InputError(f"values={brief(values)}: must be {count} finite numbers, one for each level")
    return np.array(values, np.float64)


def scaled(choosing: Work[Choice], values: NDArray[np.float64]) -> Work[Scale]:
    """Return where on a scale a choice among its levels lies."""
    found = yield from choosing
    return Scale(found, values)


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
