"""How long a pass took elsewhere: the figures of benchmarks/RESULTS.md, which `benchmarks/passes.py` measures.

A test says when the two differ.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Shape(NamedTuple):
    """What decides how long a pass takes."""

    layers: int
    hidden_size: int
    vocab_size: int


class Figure(NamedTuple):
    """Medians, in milliseconds.

    Attributes:
        full: Of a pass that computes 256 positions and predicts 32 rows.
        cached: Of one that computes the 32 positions against the others.
    """

    full: float
    cached: float


NANO, REAL = Shape(6, 256, 2023), Shape(22, 768, 256_000)
MACHINE = "two cores of a Xeon with AMX"
FIGURES: Mapping[tuple[Shape, str], Figure] = MappingProxyType(
    {
        (NANO, "fp32"): Figure(21.6, 7.19),
        (NANO, "int8"): Figure(15.0, 5.34),
        (REAL, "fp32"): Figure(455.0, 175.0),
        (REAL, "int8"): Figure(119.0, 57.0),
    }
)
