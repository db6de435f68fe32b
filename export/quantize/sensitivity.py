"""Finds the matrices that an 8-bit graph should leave in float32.

The default ranking costs one pass of the reference: a matrix is the more sensitive, the larger the error of its product
in 8 bits, relative to the product. The thorough ranking takes a pass for each matrix: the mean KL divergence from
float32's predictions when it alone is quantized.
"""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import OptionError
from diffutron_ort.types import Floats
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.check.products import product
from diffutron_ort_export.check.reference import Reference
from diffutron_ort_export.check.rows import compare_rows
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.precision import Precision, matrix_names
from diffutron_ort_export.passages import PASSAGES

TARGET_AGREEMENT = 0.98
"""The agreement with float32 that a quantized graph should reach."""


def excluded(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the matrices that match a shell pattern.

    Raises:
        OptionError: A pattern matches no matrix.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise OptionError(f"exclude {pattern!r}: no matrix has such a name; there are {', '.join(names)}")
        found |= dict.fromkeys(matching)
    return list(found)


def fewest(enough: Callable[[int], bool], most: int) -> int:
    """Return the least number from 1 to `most` that is enough; `most` if no smaller one is.

    The search doubles from below, since every try takes time and a small number is usually enough.
    """
    low, high = 1, 1
    while high < most and not enough(high):
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def ranked(baseline: Fp32Baseline) -> list[str]:
    """Return the names of all matrices, the most sensitive first."""
    measured = by_divergence(baseline) if baseline.thorough else by_noise(baseline)
    return sorted(measured, key=lambda name: -measured[name])


def by_noise(baseline: Fp32Baseline) -> dict[str, float]:
    """Measure the noise of each matrix's product in 8 bits, on one passage in each mask ratio."""
    meter = NoiseMeter(baseline.source)
    for _ in meter.parts([canvas.asked for canvas in baseline.masked[:: len(PASSAGES)]], baseline.source.kept):
        pass  # the meter reads what passes through it
    return {name: power.noise / max(power.signal, 1e-30) for name, power in meter.powers.items()}


def by_divergence(baseline: Fp32Baseline) -> dict[str, float]:
    """Measure the divergence from float32 when one matrix alone is quantized, on the same passages."""
    source, masked = baseline.source, baseline.masked[:: len(PASSAGES)]
    expected = np.concatenate(baseline.logits[:: len(PASSAGES)])
    found = {}
    for name in matrix_names(source.shape):
        simulated = Reference(source.weights, source.shape, precisions={name: Precision.INT8})
        logits = simulated.logits([canvas.asked for canvas in masked], source.kept)
        found[name] = float(compare_rows(expected, logits).kl.mean())
    return found


@dataclass
class Power:
    """The sums of the squares of products, and of their errors."""

    signal: float = 0.0
    noise: float = 0.0


class NoiseMeter(Reference):
    """The reference at float32, which also computes every product in 8 bits, and compares the two.

    Attributes:
        powers: The result for each matrix.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source.weights, source.shape)
        self.powers: defaultdict[str, Power] = defaultdict(Power)

    def multiplied(self, x: Floats, matrix: NDArray[np.float32], name: str) -> Floats:
        """Return the product at float32: [tokens, in], [rows, in] -> [tokens, rows]."""
        result = super().multiplied(x, matrix, name)
        power = self.powers[name]
        power.signal += float(np.square(result).sum(dtype=np.float64))
        power.noise += float(np.square(product(x, matrix, Precision.INT8) - result).sum(dtype=np.float64))
        return result
