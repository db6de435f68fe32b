"""Which matrices an 8-bit graph should leave alone: each one's share of the loss, measured in torch.

A matrix's share is the mean KL divergence, from float32's predictions, of the network in which it alone is quantized.
"""

import fnmatch
import functools
from collections.abc import Mapping, Sequence

from diffutron_ort.errors import OptionError
from diffutron_ort_export.check.fidelity import Fp32Baseline, Rows, TorchForward, join
from diffutron_ort_export.passages import PASSAGES
from diffutron_ort_export.quantize.int8 import Scheme
from diffutron_ort_export.quantize.simulation import products, simulated_int8

ENOUGH = 0.98
"""The share of clear rows with float32's best token that a quantized graph should reach."""

GAIN = 4
"""A matrix is quantized a row at a time first where that divides its share of the loss by so much."""


def excluded(patterns: Sequence[str], names: Sequence[str]) -> dict[str, Scheme]:
    """FLOAT for every matrix that a pattern (as of a shell) fits.

    Raises:
        OptionError: a pattern fits none.
    """
    schemes: dict[str, Scheme] = {}
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise OptionError(f"exclude {pattern!r}: no matrix has such a name; there are {', '.join(names)}")
        schemes |= dict.fromkeys(fitting, Scheme.FLOAT)
    return schemes


class Search:
    """Takes matrices out of the worst of quantization, the one that costs most first.

    A matrix that gains by ROW is put into it before it is left in float, for what ROW leaves of its share can still be
    more than the others'.
    """

    def __init__(self, baseline: Fp32Baseline) -> None:
        self.baseline = baseline
        self.matrices = products(baseline.denoiser)
        self.most = 2 * len(self.matrices)
        self._changes: list[tuple[str, Scheme]] = []

    def schemes(self, count: int) -> dict[str, Scheme]:
        """The schemes after `count` changes; after `most` of them every matrix is FLOAT."""
        while len(self._changes) < count and self._costs:
            self._changes.append(self._change())
        return dict(self._changes[:count])

    def least(self) -> int:
        """How many changes have to be made until the simulated graph is close enough; `most`, if no fewer suffice.

        It is looked for from below, by doubling: what a change costs to find is saved where few are needed.
        """
        low, high = 1, 1
        while high < self.most and not self._enough(high):
            low, high = high + 1, min(2 * high, self.most)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._enough(middle) else (middle + 1, high)
        return low

    @functools.cached_property
    def _costs(self) -> dict[str, float]:
        """Each matrix's share of the loss in the scheme that it has after the changes so far, if that is not FLOAT."""
        return {name: self._share(name, Scheme.PER_TENSOR) for name in self.matrices}

    def _change(self) -> tuple[str, Scheme]:
        """The next change: of the matrix that costs most."""
        name = max(self._costs, key=lambda name: self._costs[name])
        cost = self._costs.pop(name)
        if (name, Scheme.PER_TOKEN) not in self._changes and (
            by_row := self._share(name, Scheme.PER_TOKEN)
        ) * GAIN <= cost:
            self._costs[name] = by_row
            return name, Scheme.PER_TOKEN
        return name, Scheme.FLOAT

    def _enough(self, count: int) -> bool:
        return self._rows(self.schemes(count)).agreement() >= ENOUGH

    def _rows(self, schemes: Mapping[str, Scheme], every: int = 1) -> Rows:
        """The simulated graph's rows against float32's; a matrix without a scheme is quantized by TENSOR."""
        forward = TorchForward(self.baseline.denoiser)
        with simulated_int8(self.matrices, schemes):
            return join(list(self.baseline.rows(forward, every).values()))

    def _share(self, name: str, scheme: Scheme) -> float:
        """A matrix's share of the loss, on one passage in each ratio."""
        others = dict.fromkeys(self.matrices, Scheme.FLOAT)
        return float(self._rows(others | {name: scheme}, every=len(PASSAGES)).kl.mean())
