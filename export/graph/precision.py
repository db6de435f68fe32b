"""The precision of each matrix's products, and 8-bit weights.

A matrix W [out, in], as a checkpoint stores it, becomes int8 with one scale for each of its rows:
W = W8 * scales[:, None], where scales = max |W| / 127.
"""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import TABLE, tensor_shapes


class Precision(StrEnum):
    """How the products with a matrix are computed."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"  # activations have one scale for each token
    INT8_PER_TENSOR = "int8_per_tensor"  # activations have one scale for all tokens of a pass


Precisions = Mapping[str, Precision]
"""The precision of every matrix, by its name in the checkpoint without `.weight`."""

TABLE_MATRIX = TABLE.removesuffix(".weight")
"""The table's name as a matrix; embedding and head share it."""


def matrix_names(shape: Shape) -> list[str]:
    """Return the names of the matrices that a network multiplies by, without `.weight`, the table last."""
    names = [name.removesuffix(".weight") for name, sizes in tensor_shapes(shape).items() if len(sizes) == 2]
    return [*(name for name in names if name != TABLE_MATRIX), TABLE_MATRIX]


def quantized(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix [out, in] as symmetric int8, and its scales [out]; int8 * scales is the matrix."""
    scales = np.abs(matrix).max(axis=1) / np.float32(127)
    scales[scales < np.finfo(np.float32).tiny] = 1  # of zeros, or of numbers so small that a quotient could leave int8
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales


def half(matrix: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return a matrix in half precision; what is beyond its range is infinite, and the check of the export finds it."""
    with np.errstate(over="ignore"):
        return matrix.astype(np.float16)
