"""Types that several rooms share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ids = NDArray[np.int64]

Progress = Callable[[str, float], object]
"""Called with the name of what is being done, and how much of the download or of the export is done, from 0 to 1."""


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the control tokens."""

    pad: int
    eos: int
    bos: int
    unk: int
    mask: int
