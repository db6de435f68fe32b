"""A ratio of sums over documents, with its standard error."""

import math


class Ratio:
    """The sum of y over the sum of x, where each document adds a pair.

    Documents differ in length, so the mean over all tokens is a ratio of two sums that both depend on which documents
    there are. The standard error is that of the ratio estimator (Cochran, Sampling Techniques, 1977, section 6.4): the
    residuals y - ratio · x, treated as independent, over the sum of x.
    """

    def __init__(self) -> None:
        self._count = 0
        self._y = self._x = self._yy = self._yx = self._xx = 0.0

    def add(self, y: float, x: float) -> None:
        """Add a document; x is not negative."""
        self._count += 1
        self._y += y
        self._x += x
        self._yy += y * y
        self._yx += y * x
        self._xx += x * x

    @property
    def value(self) -> float | None:
        """The ratio; None without anything to divide by."""
        return self._y / self._x if self._x else None

    @property
    def standard_error(self) -> float | None:
        """Of the ratio; None with fewer than two documents."""
        ratio = self.value
        if ratio is None or self._count < 2:
            return None
        squares = self._yy - 2 * ratio * self._yx + ratio**2 * self._xx
        return math.sqrt(max(0.0, squares) * self._count / (self._count - 1)) / self._x
