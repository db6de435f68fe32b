"""The base of all rewritings of a float32 graph: it visits every product and replaces it."""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.graph.onnx_graph import Graph, View, rows_of


class Rewriter:
    """Rewrites the products with matrices, the embedding and the head; subclasses define the replacements."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.views = graph.model.graph, graph.views
        self._tape = Tape()

    def run(self) -> None:
        """Rewrite the graph in place, and drop the initializers that are no longer read."""
        for node in list(self.graph):
            if (result := self._rewritten(node)) is not None:
                self._replace(node, result)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and all(value is not view.of for view in self.views if view.value.uses()):
                del self.graph.initializers[name]
        self.views[:] = [view for view in self.views if view.value.uses()]

    def product(self, x: ir.Value, matrix: ir.Value) -> ir.Value | None:
        """Return the replacement of x [..., in] times a matrix [in, out]; None keeps it."""
        raise NotImplementedError

    def embedding(self, ids: ir.Value) -> ir.Value | None:
        """Return the replacement of looking up ids [batch, seq] in the table; None keeps it."""
        raise NotImplementedError

    def head(self, x: ir.Value, bias: ir.Value) -> ir.Value | None:
        """Return the replacement of x [n, hidden] times the transposed table, plus bias [vocab]; None keeps it."""
        raise NotImplementedError

    def _rewritten(self, node: ir.Node) -> ir.Value | None:
        match node.op_type, [value for value in node.inputs if value is not None]:
            case "MatMul", [x, matrix] if matrix.is_initializer():
                return self.product(x, matrix)
            case "Gather", [table, ids] if table.name == TABLE:
                return self.embedding(ids)
            case "Gemm", [x, _, bias]:
                return self.head(x, bias)
        return None

    def op(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Record an operator with one output."""
        return self._tape.op(kind, inputs, attributes)

    def ops(self, kind: str, *inputs: ir.Value, outputs: int) -> tuple[ir.Value, ...]:
        """Record an operator with several outputs."""
        return tuple(self._tape.op_multi_out(kind, inputs, num_outputs=outputs))

    def first_rows(self, table: ir.Value, count: int) -> ir.Value:
        """Return a table's first rows, stored in the table."""
        return table if count == rows_of(table) else self.part(f"{table.name}.head", table, 0, count)

    def part(self, name: str, table: ir.Value, first: int, end: int) -> ir.Value:
        """Return the rows `first` to `end` of a table, stored in the table."""
        assert table.shape is not None, "an initializer's shape is known"
        value = ir.Value(name=name, shape=ir.Shape([end - first, table.shape[1]]), type=table.type)
        self.views.append(View(value, table, first))
        return value

    def constant(self, name: str, array: Any) -> ir.Value:
        """Return the initializer of this name, created if it does not exist."""
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.ascontiguousarray(array).reshape(np.shape(array)), name=name)
            kind = ir.TensorType(tensor.dtype)
            shape = ir.Shape(np.shape(array))
            self.graph.register_initializer(ir.Value(name=name, shape=shape, type=kind, const_value=tensor))
        return self.graph.initializers[name]

    def weights(self, name: str) -> Any:
        """Return the array of an initializer."""
        tensor = self.graph.initializers[name].const_value
        assert tensor is not None, "an initializer has a value"
        return tensor.numpy()

    def _replace(self, node: ir.Node, result: ir.Value) -> None:
        """Replace a node by the recorded operators."""
        self.graph.insert_before(node, self._tape.nodes)
        self._tape = Tape()
        [old] = node.outputs
        result.shape, result.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, result)
        self.graph.remove(node, safe=True)


def matrix_of(name: str) -> str:
    """Return the checkpoint's name of the matrix that an initializer is, or is a part of."""
    stem = name.removesuffix(".weight")
    return stem.rstrip("0123456789").removesuffix(".") if stem.rpartition(".")[2].isdigit() else stem
