"""Rewrites a float32 graph with 8-bit products, and one 8-bit table for embedding and head.

A matrix W [in, out] is stored as int8 with one scale per column, a table [vocab, hidden] with one scale per row:
W = W8 * scales, where scales = max |W| / 127. Norms, biases, rotation and attention stay float32. The activations x of
a product are quantized at run time, in one of two schemes:

    per tensor   q, s, z = DynamicQuantizeLinear(x)         x W = MatMulInteger(q, W8, z) * (s * scales)
    per token    q = QuantizeLinear(x / m, 1/127, 128)      x W = MatMulInteger(q, W8, 128) * (scales / 127) * m

with m = max |x| of each token. ONNX Runtime fuses the first into one operator. The second makes a pass 9 to 15 % longer
if every product has it, and confines the coarse scale of an outlier to its own token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.graph.onnx_graph import Graph, name_of, rows_of
from diffutron_ort_export.graph.rewrite import Rewriter, matrix_of

CHUNKS = 4
"""The number of parts in which the head reads its table: transposing and packing a part takes less memory, and the
parts of logits are still in the cache when they are joined (2 % of a pass)."""

SMALLEST = np.float32(1e-30)
"""The least maximum of a token's activations, in place of 0."""


class Scheme(StrEnum):
    """How the products with a matrix are computed: the granularity of its activations' scales, or in float32."""

    PER_TENSOR = "per_tensor"
    PER_TOKEN = "per_token"  # noqa: S105  # a token of a text
    FLOAT = "float"


@dataclass(frozen=True)
class Activation:
    """Quantized activations: q uint8 [..., in], the scale of the tensor or of each token, and the zero point."""

    q: ir.Value
    scale: ir.Value
    zero: ir.Value
    scheme: Scheme


def quantize(graph: Graph, schemes: Mapping[str, Scheme]) -> None:
    """Rewrite a float32 graph in place.

    Args:
        graph: The traced graph.
        schemes: The scheme of each matrix by its name in the checkpoint, without ".weight"; per tensor by default.
    """
    Quantizer(graph, schemes).run()


class Quantizer(Rewriter):
    """Rewrites each product according to its matrix's scheme."""

    def __init__(self, graph: Graph, schemes: Mapping[str, Scheme]) -> None:
        super().__init__(graph)
        self.schemes = schemes
        self._activations: dict[tuple[ir.Value, Scheme], Activation] = {}
        self._quantized_table: tuple[NDArray[np.int8], NDArray[np.float32]] | None = None

    def product(self, x: ir.Value, matrix: ir.Value) -> ir.Value | None:
        """Return the product of integers, scaled."""
        name = name_of(matrix)
        if (scheme := self._scheme(name)) is Scheme.FLOAT:
            return None
        q, scales = quantized(self.weights(name), axis=0)
        return self._scaled(self._activation(x, scheme), self.constant(f"{name}.int8", q), scales, name)

    def embedding(self, ids: ir.Value) -> ir.Value | None:
        """Return rows of the 8-bit table, scaled."""
        if self._scheme(TABLE) is Scheme.FLOAT:
            return None
        table, scales = self._table()
        row = self.op("Cast", self.op("Gather", table, ids), to=ir.DataType.FLOAT)
        return self.op("Mul", row, self.op("Gather", self.constant(f"{TABLE}.scale", scales[:, None]), ids))

    def head(self, x: ir.Value, bias: ir.Value) -> ir.Value | None:
        """Return the product with the table, which is stored as [vocab, hidden], in parts."""
        if (scheme := self._scheme(TABLE)) is Scheme.FLOAT:
            return None
        activation, size = self._activation(x, scheme), rows_of(bias)
        parts = [
            self._head_part(activation, bias, chosen[0].item(), chosen[-1].item() + 1)
            for chosen in np.array_split(np.arange(size), min(CHUNKS, size))
        ]
        return self.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def _head_part(self, x: Activation, bias: ir.Value, first: int, end: int) -> ir.Value:
        """Return the logits [n, end - first] for some rows of the table."""
        table, scales = self._table()
        name = f"head.{first}"
        part = self.part(f"{name}.int8", table, first, end)
        product = self._scaled(x, self.op("Transpose", part, perm=[1, 0]), scales[first:end], name)
        return self.op("Add", product, self.constant(f"{name}.bias", self.weights(name_of(bias))[first:end]))

    def _table(self) -> tuple[ir.Value, NDArray[np.float32]]:
        """Return the 8-bit table [vocab, hidden] and its scales [vocab]."""
        if self._quantized_table is None:
            self._quantized_table = quantized(self.weights(TABLE), axis=1)
        q, scales = self._quantized_table
        return self.constant(f"{TABLE}.int8", q), scales

    def _scheme(self, name: str) -> Scheme:
        return self.schemes.get(matrix_of(name), Scheme.PER_TENSOR)

    def _activation(self, x: ir.Value, scheme: Scheme) -> Activation:
        """Return the quantized x; it is quantized once for all products that read it."""
        if (x, scheme) not in self._activations:
            make = self._per_tensor if scheme is Scheme.PER_TENSOR else self._per_token
            self._activations[x, scheme] = make(x)
        return self._activations[x, scheme]

    def _per_tensor(self, x: ir.Value) -> Activation:
        q, scale, zero = self.ops("DynamicQuantizeLinear", x, outputs=3)
        return Activation(q, scale, zero, Scheme.PER_TENSOR)

    def _per_token(self, x: ir.Value) -> Activation:
        last = self.constant("last_axis", np.array([-1], np.int64))
        largest = self.op("ReduceMax", self.op("Abs", x), last, keepdims=1)
        largest = self.op("Max", largest, self.constant("least", SMALLEST))
        step, zero = self.constant("step", np.float32(1 / 127)), self.constant("zero", np.uint8(128))
        return Activation(
            self.op("QuantizeLinear", self.op("Div", x, largest), step, zero), largest, zero, Scheme.PER_TOKEN
        )

    def _scaled(self, x: Activation, weight: ir.Value, scales: NDArray[np.float32], name: str) -> ir.Value:
        """Return the float32 product of quantized activations and an 8-bit matrix [in, out] with scales [out]."""
        total = self.op("Cast", self.op("MatMulInteger", x.q, weight, x.zero), to=ir.DataType.FLOAT)
        if x.scheme is Scheme.PER_TENSOR:
            return self.op("Mul", total, self.op("Mul", x.scale, self.constant(f"{name}.scale", scales)))
        return self.op("Mul", self.op("Mul", total, self.constant(f"{name}.scale", scales / 127)), x.scale)


def quantized(matrix: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix as symmetric int8, with scales from its maxima over `axis`; int8 * scales is the matrix."""
    scales = np.abs(matrix).max(axis=axis) / np.float32(127)
    scales[scales < np.finfo(np.float32).tiny] = 1  # of zeros, or of numbers so small that a quotient could leave int8
    return np.rint(matrix / np.expand_dims(scales, axis)).astype(np.int8), scales
