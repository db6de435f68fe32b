"""Products with the checkpoint's matrices, in float32, half precision or 8 bits.

In 8 bits, every token (row) of the activations has one scale, s = max |x| / 127, and x W is q W8, times s, times the
scales of W's columns. The integer sums of a token are its own, so nothing in its company can change them. The scales of
the columns are applied by the operator that ONNX Runtime fuses with the product. The scale of the token is handed on
with the result (`Scaled`): its reader can often apply it for less than a pass over the whole result.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import onnx_ir as ir
from onnxscript import nn

from diffutron_ort_export.checkpoint.weights import Weights
from diffutron_ort_export.graph.precision import Precision, half, quantized
from diffutron_ort_export.graph.values import FLOAT, HALF, INT8, Op
from diffutron_ort_export.graph.weights_file import WeightsFile

ZERO = np.uint8(128)
"""The unsigned byte that stands for 0: MLAS is fastest where it multiplies unsigned by signed bytes."""

SMALLEST = 1e-30
"""The least maximum of a token's activations, in place of 0."""

STORED_AS = {Precision.FLOAT32: FLOAT, Precision.FLOAT16: HALF, Precision.INT8: INT8}


class Rounding(NamedTuple):
    """What 8-bit products need besides their operands, made once for a number of tokens.

    Attributes:
        zero: uint8 [], `ZERO`.
        zeros: uint8 [tokens], `ZERO` for each token.
        one: float32 [1], computed, so that ONNX Runtime does not take it for a constant.
    """

    zero: ir.Value
    zeros: ir.Value
    one: ir.Value

    @classmethod
    def of(cls, op: Op, zero: ir.Value, count: ir.Value) -> Self:
        """Return it for a number of tokens, int64 [1]."""
        return cls(zero, op.Expand(zero, count), op.Cast(op.Min(count, [1]), to=FLOAT))


class Scaled(NamedTuple):
    """A value whose rows have still to be multiplied by scales.

    Attributes:
        value: float32 [tokens, m].
        scale: float32 [tokens, 1]; None is 1.
    """

    value: ir.Value
    scale: ir.Value | None = None

    def applied(self, op: Op) -> ir.Value:
        """Return the value, multiplied."""
        return self.value if self.scale is None else op.Mul(self.value, self.scale)


@dataclass(frozen=True)
class Operand:
    """Activations as a product reads them: made once for all products that read them.

    Attributes:
        value: [tokens, in], float32, float16 or uint8.
        scale: float32 [tokens, 1] for 8 bits, else None.
        rounding: What 8-bit products need besides.
    """

    value: ir.Value
    scale: ir.Value | None
    rounding: Rounding


def operand(op: Op, x: ir.Value | Scaled, precision: Precision, rounding: Rounding) -> Operand:
    """Return activations [tokens, in] as the products of a precision read them."""
    given = x if isinstance(x, Scaled) else Scaled(x)
    if precision is Precision.INT8:
        return quantized_operand(op, given, rounding)
    value = given.applied(op)
    return Operand(op.Cast(value, to=HALF) if precision is Precision.FLOAT16 else value, None, rounding)


def quantized_operand(op: Op, x: Scaled, rounding: Rounding) -> Operand:
    """Return activations in 8 bits. A scale that they have already changes nothing but the scale of the result."""
    most = op.ReduceMax(op.Abs(x.value), [-1], keepdims=0)  # [tokens]
    step = op.Mul(op.Max(most, SMALLEST), float(np.float32(1 / 127)))
    q = op.QuantizeLinear(x.value, step, rounding.zeros, axis=0)
    scale = op.Unsqueeze(step, [1])
    return Operand(q, scale if x.scale is None else op.Mul(scale, x.scale), rounding)


class Stored(nn.Module):
    """A module whose parameters come from the checkpoint."""

    def store(self, weights: Weights, file: WeightsFile) -> None:
        """Write the parameters into the file of weights."""
        raise NotImplementedError


class Product(Stored):
    """x W, where W is some rows of a matrix that the checkpoint stores as [out, in].

    Args:
        matrix: The matrix's name in the checkpoint, without `.weight`.
        inputs: The width of x.
        outputs: The width of the result.
        first: The first of the matrix's rows.
        precision: How the product is computed.
    """

    def __init__(self, matrix: str, inputs: int, outputs: int, first: int = 0, *, precision: Precision) -> None:
        super().__init__()
        self.matrix, self.first, self.outputs, self.precision = matrix, first, outputs, precision
        self.weight = nn.Parameter([inputs, outputs], STORED_AS[precision])
        if precision is Precision.INT8:
            self.scale = nn.Parameter([outputs])

    def forward(self, op: Op, x: Operand) -> Scaled:
        """[tokens, in] -> [tokens, out]."""
        if self.precision is Precision.INT8:
            return Scaled(integer_product(op, x, self.weight, self.scale), x.scale)
        product = op.MatMul(x.value, self.weight)
        return Scaled(op.Cast(product, to=FLOAT) if self.precision is Precision.FLOAT16 else product)

    def store(self, weights: Weights, file: WeightsFile) -> None:
        """Write the matrix as [in, out], so that MatMul reads it from the file without a transpose."""
        rows = weights.rows(f"{self.matrix}.weight", self.first, self.first + self.outputs)
        if self.precision is Precision.INT8:
            integers, scales = quantized(rows)
            file.store(self.scale, [scales])
            file.store(self.weight, [integers.T])
        else:
            file.store(self.weight, [(half(rows) if self.precision is Precision.FLOAT16 else rows).T])


def integer_product(op: Op, x: Operand, weight: ir.Value, scales: ir.Value) -> ir.Value:
    """Return the product of 8-bit activations and weights [in, out], times the weights' scales [out].

    ONNX Runtime fuses this into one operator where the scales are multiplied by what is not a constant.
    """
    total = op.Cast(op.MatMulInteger(x.value, weight, x.rounding.zero), to=FLOAT)
    return op.Mul(total, op.Mul(x.rounding.one, scales))


class Norm(Stored):
    """Layer norm without bias.

    Args:
        name: The weight's name in the checkpoint, without `.weight`.
        size: The width of x.
        epsilon: Added to the variance.
    """

    def __init__(self, name: str, size: int, epsilon: float) -> None:
        super().__init__()
        self.tensor, self.epsilon = f"{name}.weight", epsilon
        self.weight = nn.Parameter([size])

    def forward(self, op: Op, x: ir.Value) -> ir.Value:
        """[..., size] -> [..., size]."""
        return op.LayerNormalization(x, self.weight, epsilon=self.epsilon)

    def store(self, weights: Weights, file: WeightsFile) -> None:
        """Write the weight."""
        file.store(self.weight, [weights.rows(self.tensor)])
