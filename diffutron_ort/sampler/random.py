"""Uniform numbers by a counter-based hash: the same for the same seed in any language, whatever shares a pass."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Ids


class Stream(IntEnum):
    """What a uniform is drawn for, so that one seed gives each purpose numbers of its own."""

    TOKEN = 0
    REMASKING = 1
    TRANSFER = 2
    SCORING = 3


# (seed, stream, block, step, position) -> hash: what a port to another language checks itself against.
UNIFORM_VECTORS = (
    ((0, 0, 0, 0, 0), 118092924),
    ((0, 0, 0, 0, 1), 1784371055),
    ((0, 0, 0, 1, 0), 3869298764),
    ((0, 1, 0, 0, 0), 3332498262),
    ((1, 0, 0, 0, 64), 3566638648),
    ((2**32, 0, 0, 0, 64), 811927051),
    ((123456789012345, 2, 3, 31, 255), 1918158746),
)


def uniform_hash(seed: int, stream: int, block: int, step: int | Ids, position: Ids) -> NDArray[np.uint32]:
    """Return 32 hashed bits per position, uint32 [n]: one multiply-xorshift round per word, all arithmetic wrapping.

    There is one step for all positions, or one for each, [n].
    """
    golden = np.uint32(0x9E3779B9)
    words = (seed & 0xFFFFFFFF, seed >> 32, stream, block, step)
    h: NDArray[np.uint32] = np.full(position.shape, golden)
    for word in (*words, position):
        h = _mix(h ^ np.asarray(word, np.uint32)) + golden
    return h


def uniform(seed: int, stream: int, block: int, step: int | Ids, position: Ids) -> NDArray[np.float64]:
    """Return one number in [0, 1) per position, float64 [n]: the upper 24 bits of `uniform_hash` over 2**24."""
    return (uniform_hash(seed, stream, block, step, position) >> np.uint32(8)) / 2.0**24


def _mix(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return `x` with its bits scattered (the finalizer "lowbias32" by C. Wellons)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
