"""Products with a checkpoint's matrices in each precision, as an exported graph computes them.

FLOAT32    x W^T, in the dtype of x
FLOAT16    x and W are rounded to half precision before the product, which is rounded after it
INT8       (q W8^T) s scales, with q = round(x / s), s = max |x| / 127 for each token, and W = W8 scales
INT8_PER_TENSOR  the same, with s = (max x - min x) / 255 for all tokens, as DynamicQuantizeLinear has it
"""

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats
from diffutron_ort_export.graph.precision import Precision, quantized

EIGHT_BITS = (Precision.INT8, Precision.INT8_PER_TENSOR)

SMALLEST = 1e-30
"""The least activation scale, in place of 0."""


def product(x: Floats, matrix: NDArray[np.float32], precision: Precision) -> Floats:
    """Return the product of activations and a matrix: [tokens, in], [out, in] -> [tokens, out], in the dtype of x.

    A product that overflows half precision is infinite or NaN.
    """
    if precision in EIGHT_BITS:
        q, activation_scales = quantized_tokens(x) if precision is Precision.INT8 else quantized_tensor(x)
        weights, scales = quantized(matrix)
        return (q @ weights.T.astype(x.dtype)) * activation_scales * scales.astype(x.dtype)
    if precision is Precision.FLOAT16:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
            return halved(halved(x) @ halved(matrix.astype(x.dtype, copy=False)).T)
    return x @ matrix.T.astype(x.dtype, copy=False)


def represented(matrix: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """Return the values that a graph stores for a matrix, or for some of its rows: [rows, in] -> the same."""
    if precision in EIGHT_BITS:
        weights, scales = quantized(matrix)
        return weights * scales[:, None]
    return halved(matrix) if precision is Precision.FLOAT16 else matrix


def quantized_tokens(x: Floats) -> tuple[Floats, Floats]:
    """Return activations [tokens, in] as whole numbers of the same dtype, and their scales [tokens, 1]."""
    scales = np.maximum(np.abs(x).max(axis=1, keepdims=True) / 127, x.dtype.type(SMALLEST))
    return np.rint(x / scales), scales


def quantized_tensor(x: Floats) -> tuple[Floats, Floats]:
    """Return activations [tokens, in] as whole numbers of the same dtype, less their zero point, and their scale [].

    The range is made to hold 0, which a whole number stands for; at its ends, values are clipped to a byte.
    """
    low, high = np.minimum(x.min(), 0), np.maximum(x.max(), 0)
    scale = np.maximum((high - low) / 255, x.dtype.type(SMALLEST))
    zero = np.rint(-low / scale)
    return np.clip(np.rint(x / scale) + zero, 0, 255) - zero, np.asarray(scale)


def halved(x: Floats) -> Floats:
    """Return an array rounded to half precision, in its own dtype."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(x.dtype)
