"""Rewrites a float32 graph with matrices and products in half precision, for CUDA.

Norms, rotation, attention's softmax, the sums over the vocabulary, and all inputs and outputs stay float32, so the
graph's contract is the same. A product that overflows half precision (65,504) is infinite, which the runtime refuses.
"""

import numpy as np
import onnx_ir as ir

from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.graph.onnx_graph import Graph, name_of, rows_of
from diffutron_ort_export.graph.rewrite import Rewriter

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def to_fp16(graph: Graph) -> None:
    """Rewrite a float32 graph in place."""
    Fp16Rewriter(graph).run()


class Fp16Rewriter(Rewriter):
    """Stores matrices and table as float16, and multiplies in float16."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._halves: dict[ir.Value, ir.Value] = {}

    def product(self, x: ir.Value, matrix: ir.Value) -> ir.Value:
        """Return the product in half precision."""
        return self.op("Cast", self.op("MatMul", self._half(x), self._stored(name_of(matrix))), to=FLOAT)

    def embedding(self, ids: ir.Value) -> ir.Value:
        """Return rows of the half-precision table."""
        return self.op("Cast", self.op("Gather", self._stored(TABLE), ids), to=FLOAT)

    def head(self, x: ir.Value, bias: ir.Value) -> ir.Value:
        """Return the product in half precision, with the bias added in float32."""
        product = self.op("Gemm", self._half(x), self.first_rows(self._stored(TABLE), rows_of(bias)), transB=1)
        return self.op("Add", self.op("Cast", product, to=FLOAT), bias)

    def _half(self, x: ir.Value) -> ir.Value:
        """Return x in half precision; it is cast once for all that read it."""
        if x not in self._halves:
            self._halves[x] = self.op("Cast", x, to=HALF)
        return self._halves[x]

    def _stored(self, name: str) -> ir.Value:
        with np.errstate(over="ignore"):  # an overflow is infinite, and verification finds it
            return self.constant(f"{name}.half", self.weights(name).astype(np.float16))
