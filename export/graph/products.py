"""Products with the checkpoint's matrices, in float32, half precision or 8 bits.

In 8 bits, x W is q W8, times the scale of the activations x = s (q - zero), times the scales of W's columns. ONNX
Runtime fuses what multiplies the integers by both into one operator. With one scale for the whole of x, a token's
result depends on what else is in the pass. With one for each token (row), s = max |x| / 127, its integer sums are its
own, and nothing in its company can change them; its scale is handed on with the result (`Scaled`), for the reader can
often apply it for less than a pass over the whole result.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import onnx_ir as ir
from onnxscript import nn

from diffutron_ort_export.checkpoint.weights import Weights
from diffutron_ort_export.graph.precision import Precision, half, quantized
from diffutron_ort_export.graph.values import FLOAT, HALF, INT8, Op, sized
from diffutron_ort_export.graph.weights_file import WeightsFile

ZERO = np.uint8(128)
"""The unsigned byte that stands for 0: MLAS is fastest where it multiplies unsigned by signed bytes."""

STORED_AS = {
    Precision.FLOAT32: FLOAT,
    Precision.FLOAT16: HALF,
    Precision.INT8: INT8,
    Precision.INT8_PER_TENSOR: INT8,
}


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
    def of(cls, op: Op, zero: ir.Value, count: ir.Value, axis: str) -> Self:
        """Return it for a number of tokens, int64 [1], along an axis with a name."""
        return cls(
            zero,
            sized(op.ConstantOfShape(count, value=ir.tensor(np.array([ZERO]))), axis),
            op.Cast(op.Min(count, [1]), to=FLOAT),
        )


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
        zero: uint8 [], the byte that stands for 0; None where there are no bytes.
        factor: float32 [] or [1], the scale of all tokens, no constant; None where there are no bytes.
        scale: float32 [tokens, 1], the scale of each token; None if it has none.
    """

    value: ir.Value
    zero: ir.Value | None = None
    factor: ir.Value | None = None
    scale: ir.Value | None = None

    def rows(self, op: Op, rows: ir.Value) -> Self:
        """Return some of the tokens."""
        scale = None if self.scale is None else op.Gather(self.scale, rows)
        return replace(self, value=op.Gather(self.value, rows), scale=scale)


def operand(op: Op, x: ir.Value | Scaled, precision: Precision, rounding: Rounding) -> Operand:
    """Return activations [tokens, in] as the products of a precision read them."""
    given = x if isinstance(x, Scaled) else Scaled(x)
    if precision is Precision.INT8:
        return rounded_by_token(op, given, rounding)
    value = given.applied(op)
    if precision is Precision.INT8_PER_TENSOR:
        q, scale, zero = op.DynamicQuantizeLinear(value, _outputs=3)
        return Operand(q, zero, scale)
    return Operand(op.Cast(value, to=HALF) if precision is Precision.FLOAT16 else value)


def rounded_by_token(op: Op, x: Scaled, rounding: Rounding) -> Operand:
    """Return activations in 8 bits, each token with its own scale.

    A scale that they have already changes nothing but the scale of the result. A token of zeros is divided by a scale
    of 0, and whatever bytes that makes are multiplied by it again.
    """
    most = op.ReduceMax(op.Abs(x.value), [-1], keepdims=1)  # [tokens, 1]
    step = op.Mul(most, float(np.float32(1 / 127)))
    q = op.QuantizeLinear(x.value, op.Squeeze(step, [1]), rounding.zeros, axis=0)
    return Operand(q, rounding.zero, rounding.one, step if x.scale is None else op.Mul(step, x.scale))


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
        if STORED_AS[precision] is INT8:
            self.scale = nn.Parameter([outputs])

    def forward(self, op: Op, x: Operand) -> Scaled:
        """[tokens, in] -> [tokens, out]."""
        if STORED_AS[self.precision] is INT8:
            return Scaled(integer_product(op, x, self.weight, self.scale), x.scale)
        product = op.MatMul(x.value, self.weight)
        return Scaled(op.Cast(product, to=FLOAT) if self.precision is Precision.FLOAT16 else product)

    def store(self, weights: Weights, file: WeightsFile) -> None:
        """Write the matrix as [in, out], so that MatMul reads it from the file without a transpose."""
        rows = weights.rows(f"{self.matrix}.weight", self.first, self.first + self.outputs)
        if STORED_AS[self.precision] is INT8:
            integers, scales = quantized(rows)
            file.store(self.scale, [scales])
            file.store(self.weight, [integers.T])
        else:
            file.store(self.weight, [(half(rows) if self.precision is Precision.FLOAT16 else rows).T])


def integer_product(op: Op, x: Operand, weight: ir.Value, scales: ir.Value) -> ir.Value:
    """Return the product of 8-bit activations and weights [in, out], times the weights' scales [out].

    ONNX Runtime fuses this into one operator where the scales are multiplied by what is not a constant.
    """
    total = op.Cast(op.MatMulInteger(x.value, weight, x.zero), to=FLOAT)
    return op.Mul(total, op.Mul(x.factor, scales))


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
