"""Types that several rooms share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the control tokens."""

    pad: int
    eos: int
    bos: int
    unk: int
    mask: int
