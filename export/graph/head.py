"""The token table, for the embedding and for the head that ends in it."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import nn

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.checkpoint.weights import Weights
from diffutron_ort_export.graph.precision import TABLE_MATRIX, Precision, Precisions, half, quantized
from diffutron_ort_export.graph.products import (
    STORED_AS,
    Norm,
    Operand,
    Product,
    Rounding,
    Scaled,
    Stored,
    integer_product,
    operand,
)
from diffutron_ort_export.graph.values import FLOAT, INT8, Op
from diffutron_ort_export.graph.vocabulary import Columns
from diffutron_ort_export.graph.weights_file import WeightsFile

NEVER = -2e30
"""The bias of a column that only fills up a part."""


class Table(Stored):
    """The token table, one row an id; the parts of the head are views of it.

    Args:
        shape: The network's shape.
        columns: The order of the rows.
        precision: How the rows are stored.
    """

    def __init__(self, shape: Shape, columns: Columns, precision: Precision) -> None:
        super().__init__()
        self.columns, self.hidden, self.precision = columns, shape.hidden_size, precision
        self.weight = nn.Parameter([columns.rows, self.hidden], STORED_AS[precision])
        if STORED_AS[precision] is INT8:
            self.scale = nn.Parameter([columns.rows, 1])
        self.parts = [Part(self, first) for first in columns.firsts]
        self.head = nn.ModuleList([*self.parts])

    def forward(self, op: Op, rows: ir.Value) -> ir.Value:
        """Return the table's rows: [tokens] -> [tokens, hidden]."""
        found = op.Gather(self.weight, rows)
        if self.precision is Precision.FLOAT32:
            return found
        found = op.Cast(found, to=FLOAT)
        return found if self.precision is Precision.FLOAT16 else op.Mul(found, op.Gather(self.scale, rows))

    def store(self, weights: Weights, file: WeightsFile) -> None:
        """Write the table and the head's biases; the parts read theirs from the same bytes."""
        scales: list[NDArray[np.float32]] = []
        table, bias = file.store(self.weight, self.encoded(weights, scales)), file.write([self.biases(weights)])
        scale = file.store(self.scale, scales) if scales else 0
        row = self.hidden * int(STORED_AS[self.precision].itemsize)
        for part in self.parts:
            file.read(part.weight, table + part.first * row)
            file.read(part.bias, bias + part.first * 4)
            if scales:
                file.read(part.scale, scale + part.first * 4)

    def encoded(self, weights: Weights, scales: list[NDArray[np.float32]]) -> Iterator[NDArray[np.generic]]:
        """Yield chunks of the table as it is stored, and append the scales of their rows."""
        for rows in self.ordered(weights):
            if STORED_AS[self.precision] is INT8:
                integers, found = quantized(rows)
                scales.append(found)
                yield integers
            else:
                yield half(rows) if self.precision is Precision.FLOAT16 else rows

    def ordered(self, weights: Weights) -> Iterator[NDArray[np.float32]]:
        """Yield the table's rows in chunks: those that can be predicted, all others, and zeros that fill a part up."""
        if self.columns.kept is None:
            yield from weights.chunks(TABLE)
        else:
            predicted = np.isin(np.arange(self.columns.vocab), self.columns.kept)
            for wanted in (predicted, ~predicted):
                first = 0
                for rows in weights.chunks(TABLE):
                    yield rows[wanted[first : first + len(rows)]]
                    first += len(rows)
        if extra := self.columns.rows - self.columns.vocab:
            yield np.zeros((extra, self.hidden), np.float32)

    def biases(self, weights: Weights) -> NDArray[np.float32]:
        """Return the bias of every column."""
        bias = np.full(self.columns.padded, NEVER, np.float32)
        bias[: self.columns.count] = weights.rows(BIAS)[self.columns.order()[: self.columns.count]]
        return bias


class Part(nn.Module):
    """The product with some of the table's rows, plus their biases."""

    def __init__(self, table: Table, first: int) -> None:
        super().__init__()
        self.first, self.precision, width = first, table.precision, table.columns.width
        self.weight = nn.Parameter([width, table.hidden], STORED_AS[self.precision])
        self.bias = nn.Parameter([width])
        if STORED_AS[self.precision] is INT8:
            self.scale = nn.Parameter([width])

    def forward(self, op: Op, x: Operand) -> ir.Value:
        """[n, hidden] -> the logits of the part, [n, width]."""
        if self.precision is Precision.FLOAT32:
            return op.Gemm(x.value, self.weight, self.bias, transB=1)
        if self.precision is Precision.FLOAT16:
            return op.Add(op.Cast(op.Gemm(x.value, self.weight, transB=1), to=FLOAT), self.bias)
        product = integer_product(op, x, op.Transpose(self.weight, perm=[1, 0]), self.scale)
        return op.Add(Scaled(product, x.scale).applied(op), self.bias)


class Embeddings(nn.Module):
    """Token table and norm; positions enter only through rotation."""

    def __init__(self, shape: Shape, table: Table) -> None:
        super().__init__()
        self.tok_embeddings = table
        self.norm = Norm("model.embeddings.norm", shape.hidden_size, shape.norm_eps)

    def forward(self, op: Op, rows: ir.Value) -> ir.Value:
        """[tokens] -> [tokens, hidden]."""
        return self.norm(op, self.tok_embeddings(op, rows))


class Head(nn.Module):
    """The transform before the table: dense, gelu, norm."""

    def __init__(self, shape: Shape, precisions: Precisions) -> None:
        super().__init__()
        hidden, self.precision = shape.hidden_size, precisions["head.dense"]
        self.dense = Product("head.dense", hidden, hidden, precision=self.precision)
        self.norm = Norm("head.norm", hidden, shape.norm_eps)
        self.table_precision = precisions[TABLE_MATRIX]

    def forward(self, op: Op, x: ir.Value, rounding: Rounding) -> Operand:
        """[n, hidden] -> what the parts of the table multiply."""
        mixed = self.dense(op, operand(op, x, self.precision, rounding)).applied(op)
        return operand(op, self.norm(op, op.Gelu(mixed)), self.table_precision, rounding)
