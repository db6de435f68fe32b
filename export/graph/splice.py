"""Splices a variant's written denoiser into the loop of `generation`; both graphs share the file of weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass, NameFixPass, RemoveUnusedNodesPass
from onnx_ir.tape import Tape
from onnxscript import OnnxFunction

from diffutron_ort_export.graph.generation import PLACEHOLDERS, denoise, generate
from diffutron_ort_export.graph.vocabulary import KEPT, PLACE

IR_VERSION = 10
"""The denoiser's IR version, which every allowed release of ONNX Runtime reads."""

RESULTS = ("top_ids", "top_logits", "rest", "rest_tempered", "logits")
"""The denoiser's outputs that the loop reads."""


def splice(denoiser: Path, out: Path) -> None:
    """Write generation with a denoiser as one graph.

    Args:
        denoiser: The graph of a variant.
        out: The path to write, in the same folder, since both graphs read the same file of weights.
    """
    inner, model = ir.load(denoiser), sampler()
    splice_widening(placeholder(model, "widen"), model.graph, inner.graph)
    splice_denoiser(placeholder(model, "denoise"), model.graph, inner.graph)
    del model.opset_imports[PLACEHOLDERS.domain]
    model.metadata_props.update(inner.metadata_props)
    NameFixPass()(model)
    ir.save(typed(model), out)


def sampler() -> ir.Model:
    """Return the model of generation, with placeholders for the denoiser."""
    model: ir.Model = ir.from_proto(generate.to_model_proto(ir_version=IR_VERSION))
    domain = next(domain for domain, name, _ in model.functions if name == "plan")
    for key in [key for key in model.functions if key[0] == PLACEHOLDERS.domain]:
        del model.functions[key]
    InlinePass()(model)
    del model.opset_imports[domain]
    shapes = (ir.Shape([1, "total"]), ir.Shape([]), ir.Shape([]))
    for value, shape in zip(model.graph.outputs, shapes, strict=True):
        value.type, value.shape = ir.TensorType(ir.DataType.INT64), shape  # unknown after the loop
    return model


def placeholder(model: ir.Model, name: str) -> ir.Node:
    """Return the placeholder node with this name."""
    [node] = [node for node in model.graph.all_nodes() if (node.domain, node.op_type) == (PLACEHOLDERS.domain, name)]
    return node


def names(function: OnnxFunction[..., Any]) -> list[str | None]:
    """Return the names of a function's inputs."""
    return [value.name for value in function.function_ir.inputs]


def splice_denoiser(node: ir.Node, outer: ir.Graph, inner: ir.Graph) -> None:
    """Replace a placeholder by the denoiser's nodes, and move its initializers to the outermost graph."""
    given = dict(zip(names(denoise), node.inputs, strict=True))
    results = {value.name: value for value in inner.outputs}
    given["target_ids"] = no_targets(node, outer)
    for value in inner.inputs:
        ir.convenience.replace_all_uses_with(value, given.get(value.name) or empty(outer, value))
    for name in list(inner.initializers):
        outer.register_initializer(inner.initializers.pop(name))
    inner.outputs.clear()
    nodes = list(inner)
    inner.remove(nodes)
    replace(node, nodes, [results[name] for name in RESULTS])


def replace(node: ir.Node, nodes: Sequence[ir.Node], results: Sequence[ir.Value]) -> None:
    """Replace a node by others, and its outputs by their results."""
    graph = node.graph
    assert graph is not None, "the node is in a graph"
    graph.insert_before(node, nodes)
    ir.convenience.replace_all_uses_with(node.outputs, results)
    graph.remove(node, safe=True)


def no_targets(node: ir.Node, outer: ir.Graph) -> ir.Value:
    """Insert before a placeholder what makes no target ids for each of its rows, int64 [n, 0]."""
    rows, tape = node.inputs[names(denoise).index("rows")], Tape()
    assert rows is not None, "the operator requires it"
    count = tape.op("Shape", [rows])
    shape = tape.op("Concat", [count, constant(outer, "zero_columns", np.zeros(1, np.int64))], {"axis": 0})
    targets = tape.op("ConstantOfShape", [shape], {"value": ir.tensor(np.zeros(1, np.int64))})
    assert node.graph is not None, "the node is in a graph"
    node.graph.insert_before(node, tape.nodes)
    return targets


def empty(outer: ir.Graph, given: ir.Value) -> ir.Value:
    """Return what to give the denoiser for an input that the loop has no use for: nothing, of one sequence."""
    assert given.shape is not None, "inputs have shapes"
    assert given.dtype is not None, "inputs have types"
    sizes: dict[str | None, int] = {"batch": 1}
    shape = [size if isinstance(size, int) else sizes.get(size.value, 0) for size in given.shape]
    return constant(outer, f"no_{given.name}", np.zeros(shape, given.dtype.numpy()))


def splice_widening(node: ir.Node, outer: ir.Graph, inner: ir.Graph) -> None:
    """Replace a placeholder by nodes that scatter logits [r, columns] to the whole vocabulary, with -inf elsewhere."""
    [logits], tape = node.inputs, Tape()
    assert logits is not None, "the operator requires it"
    if KEPT in inner.initializers:
        table_rows = inner.initializers[PLACE].const_value
        assert table_rows is not None, "an initializer has a value"
        size = constant(outer, "vocabulary", np.array([len(table_rows.numpy())], np.int64))
        rows = tape.op("Shape", [logits], {"end": 1})
        never = constant(outer, "never", np.array(-np.inf, np.float32))
        empty = tape.op("Expand", [never, tape.op("Concat", [rows, size], {"axis": 0})])
        ids = tape.op("Expand", [inner.initializers[KEPT], tape.op("Shape", [logits])])
        logits = tape.op("ScatterElements", [empty, ids, logits], {"axis": 1})
    replace(node, tape.nodes, [logits])


def constant(outer: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Return a new initializer of the outermost graph."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    outer.register_initializer(value)
    return value


def typed(model: ir.Model) -> ir.Model:
    """Return the model with inferred types, and with each constant stored in the type that it is used as."""
    declared = {value.name: value.shape for node in model.graph.all_nodes() for value in node.outputs}
    model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    for node in list(model.graph.all_nodes()):
        if node.op_type == "CastLike":
            same = cast(node)
            replace(node, [same], same.outputs)
    RemoveUnusedNodesPass()(model)
    for value in [value for node in model.graph.all_nodes() for value in node.outputs]:
        if value not in model.graph.outputs:
            value.shape = declared.get(value.name)
    return model


def cast(node: ir.Node) -> ir.Node:
    """Return the Constant that a CastLike of a constant results in."""
    [constant, like], [old] = node.inputs, node.outputs
    assert constant is not None, "the operator requires it"
    assert like is not None, "the operator requires it"
    tensor = ir.convenience.get_const_tensor(constant)
    assert tensor is not None, "onnxscript casts constants alone"
    assert like.dtype is not None, "types have been inferred"
    array = tensor.numpy().astype(like.dtype.numpy())
    return ir.node("Constant", [], {"value": ir.tensor(array)}, outputs=[ir.Value(name=old.name)])
