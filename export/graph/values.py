"""Types and constants that every part of the graph shares."""

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

Op: TypeAlias = Any
"""onnxscript's builder of operators: `op.Add(a, b)` adds a node, and returns its output."""

FLOAT, HALF, INT64, INT32 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.INT32
INT8, UINT8, BOOL = ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.BOOL


def branch(op: Op, build: Any, name: str, count: int = 1, dtype: ir.DataType = FLOAT) -> ir.Graph:
    """Return a branch of an If, with `count` outputs of one type.

    Args:
        op: The builder of the graph around it, whose values the branch can read.
        build: A function of the branch's own builder that returns its outputs.
        name: The branch's name.
        count: The number of outputs.
        dtype: Their element type.
    """
    outputs = [ir.Value(name=None, type=ir.TensorType(dtype)) for _ in range(count)]
    return op.builder.subgraph(build, [], outputs, name=name)


def choose(op: Op, condition: ir.Value, yes: Any, no: Any, name: str, dtype: ir.DataType = FLOAT) -> ir.Value:
    """Return `yes(op)` where a bool [] holds, else `no(op)`; only one of the two is computed."""
    result = op.If(
        condition,
        then_branch=branch(op, yes, f"{name}_yes", dtype=dtype),
        else_branch=branch(op, no, f"{name}_no", dtype=dtype),
    )
    result.type = ir.TensorType(dtype)
    return result


def filled(op: Op, number: float, shape: ir.Value) -> ir.Value:
    """Return a tensor of a shape, int64 [rank], that holds one number everywhere, float32 or int64 as the number is.

    This is no Expand, because WebGPU has none to a shape without elements.
    """
    dtype = np.float32 if isinstance(number, float) else np.int64
    return op.ConstantOfShape(shape, value=ir.tensor(np.array([number], dtype)))


def sized(value: ir.Value, *axes: int | str) -> ir.Value:
    """Say which shape a value has, where that cannot be inferred, and return the value.

    ONNX Runtime lets an operator work in place where it knows that its input and its output have the same shape.
    """
    value.meta["axes"] = axes
    return value


def declare_shapes(graph: ir.Graph) -> None:
    """Give values the shapes that `sized` says, and no others but the graph's inputs and outputs.

    An Attention whose values had no known width was inferred to have one of 0, and ONNX Runtime warns of the
    contradiction.
    """
    for node in graph.all_nodes():
        for value in node.outputs:
            if value not in graph.outputs:
                value.shape = ir.Shape(value.meta["axes"]) if "axes" in value.meta else None
