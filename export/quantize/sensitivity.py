"""Finds the matrices that an 8-bit graph should treat with care, by measuring each one's sensitivity in torch.

A matrix's sensitivity is the mean KL divergence from float32's predictions when it alone is quantized.
"""

import fnmatch
import functools
from collections.abc import Mapping, Sequence

from diffutron_ort.errors import OptionError
from diffutron_ort_export.check.fidelity import Fp32Baseline, Rows, TorchForward, join
from diffutron_ort_export.passages import PASSAGES
from diffutron_ort_export.quantize.int8 import Scheme
from diffutron_ort_export.quantize.simulation import products, simulated_int8

TARGET_AGREEMENT = 0.98
"""The agreement with float32 that a quantized graph should reach."""

GAIN = 4
"""The least factor by which per-token scales must lower a matrix's sensitivity, to be tried before float32."""


def excluded(patterns: Sequence[str], names: Sequence[str]) -> dict[str, Scheme]:
    """Return FLOAT for every matrix that matches a shell pattern.

    Raises:
        OptionError: A pattern matches no matrix.
    """
    schemes: dict[str, Scheme] = {}
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise OptionError(f"exclude {pattern!r}: no matrix has such a name; there are {', '.join(names)}")
        schemes |= dict.fromkeys(matching, Scheme.FLOAT)
    return schemes


class Search:
    """Finds the exceptions from per-tensor quantization, starting with the most sensitive matrix.

    A matrix that gains from per-token scales gets these before float32, and is measured again: what is left of its
    sensitivity may still exceed the others'.
    """

    def __init__(self, baseline: Fp32Baseline) -> None:
        self.baseline = baseline
        self.matrices = products(baseline.denoiser)
        self.most = 2 * len(self.matrices)
        self._changes: list[tuple[str, Scheme]] = []

    def schemes(self, count: int) -> dict[str, Scheme]:
        """Return the schemes after `count` changes; after `most` of them every matrix is FLOAT."""
        while len(self._changes) < count and self._costs:
            self._changes.append(self._change())
        return dict(self._changes[:count])

    def least(self) -> int:
        """Return the fewest changes after which the simulated graph is close enough; `most` if no fewer suffice.

        The search doubles from below, since every change takes time to find and few are usually needed.
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
        """The sensitivity of each matrix that is not FLOAT, in its scheme after the changes so far."""
        return {name: self._sensitivity(name, Scheme.PER_TENSOR) for name in self.matrices}

    def _change(self) -> tuple[str, Scheme]:
        """Return the next change, which concerns the most sensitive matrix."""
        name = max(self._costs, key=lambda name: self._costs[name])
        cost = self._costs.pop(name)
        if (name, Scheme.PER_TOKEN) not in self._changes and (
            per_token := self._sensitivity(name, Scheme.PER_TOKEN)
        ) * GAIN <= cost:
            self._costs[name] = per_token
            return name, Scheme.PER_TOKEN
        return name, Scheme.FLOAT

    def _enough(self, count: int) -> bool:
        return self._rows(self.schemes(count)).agreement() >= TARGET_AGREEMENT

    def _rows(self, schemes: Mapping[str, Scheme], every: int = 1) -> Rows:
        """Compare the simulated graph's rows with float32's; a matrix without a scheme is quantized per tensor."""
        forward = TorchForward(self.baseline.denoiser)
        with simulated_int8(self.matrices, schemes):
            return join(list(self.baseline.rows(forward, every).values()))

    def _sensitivity(self, name: str, scheme: Scheme) -> float:
        """Measure a matrix's sensitivity, on one passage in each mask ratio."""
        others = dict.fromkeys(self.matrices, Scheme.FLOAT)
        return float(self._rows(others | {name: scheme}, every=len(PASSAGES)).kl.mean())
