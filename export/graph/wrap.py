"""Puts a variant's denoiser, as it was written, into the loop of `generation`; the weights stay where they are."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, NameFixPass, RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from diffutron_ort_export.graph.generation import HOLES, denoise, generate
from diffutron_ort_export.graph.network import KEPT, PLACE

IR_VERSION = 10
"""What every ONNX Runtime that we allow reads, and the denoiser has."""

RESULTS = ("top_ids", "top_logits", "rest", "rest_tempered", "logits")
"""The denoiser's outputs that the loop reads."""


def wrap(denoiser: Path, out: Path) -> None:
    """Writes generation with a denoiser as one graph.

    Args:
        denoiser: the graph of any variant.
        out: where to, in the same folder: both read the same file of weights.
    """
    inner, model = ir.load(denoiser), sampler()
    place_widening(hole(model, "widen"), model.graph, inner.graph)
    place_denoiser(hole(model, "denoise"), model.graph, inner.graph)
    del model.opset_imports[HOLES.domain]
    model.metadata_props.update(inner.metadata_props)
    NameFixPass()(model)
    ir.save(typed(model), out)


def sampler() -> ir.Model:
    """Generation, with holes in the place of the denoiser."""
    model = ir.from_proto(generate.to_model_proto(ir_version=IR_VERSION))
    domain = next(domain for domain, name, _ in model.functions if name == "plan")
    for key in [key for key in model.functions if key[0] == HOLES.domain]:
        del model.functions[key]
    InlinePass()(model)
    del model.opset_imports[domain]
    for value, shape in zip(model.graph.outputs, ([1, "total"], [], []), strict=True):
        value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape(shape)  # which the loop leaves unknown
    return model


def hole(model: ir.Model, name: str) -> ir.Node:
    """The node that stands for something."""
    [node] = [node for node in model.graph.all_nodes() if (node.domain, node.op_type) == (HOLES.domain, name)]
    return node


def place_denoiser(node: ir.Node, outer: ir.Graph, inner: ir.Graph) -> None:
    """Moves a denoiser's nodes to where a node stands for them, and its initializers to the outermost graph."""
    given = dict(zip([value.name for value in denoise.function_ir.inputs], node.inputs, strict=True))
    results = {value.name: value for value in inner.outputs}
    for value in inner.inputs:
        ir.convenience.replace_all_uses_with(value, given.get(value.name) or nothing(outer, value))
    for name in list(inner.initializers):
        outer.register_initializer(inner.initializers.pop(name))
    inner.outputs.clear()
    nodes = list(inner)
    inner.remove(nodes)
    node.graph.insert_before(node, nodes)
    for old, name in zip(node.outputs, RESULTS, strict=True):
        ir.convenience.replace_all_uses_with(old, results[name])
    node.graph.remove(node, safe=True)


def nothing(outer: ir.Graph, past: ir.Value) -> ir.Value:
    """What stands for an input of the past: one sequence of no tokens."""
    sizes = {"batch": 1, "past": 0}
    shape = [size if isinstance(size, int) else sizes[size.value] for size in past.shape]
    array = np.zeros(shape, past.dtype.numpy())
    return constant(outer, f"no_{past.name}", array)


def place_widening(node: ir.Node, outer: ir.Graph, inner: ir.Graph) -> None:
    """Gives logits [r, columns] a column for every piece, -inf for those that are not in the output vocabulary."""
    [logits], [wide] = node.inputs, node.outputs
    if KEPT in inner.initializers:
        tape = Tape()
        size = constant(outer, "vocabulary", np.array([inner.initializers[PLACE].shape[0]], np.int64))
        rows = tape.op("Shape", [logits], {"end": 1})
        never = constant(outer, "never", np.float32(-np.inf))
        empty = tape.op("Expand", [never, tape.op("Concat", [rows, size], {"axis": 0})])
        ids = tape.op("Expand", [inner.initializers[KEPT], tape.op("Shape", [logits])])
        logits = tape.op("ScatterElements", [empty, ids, logits], {"axis": 1})
        node.graph.insert_before(node, tape.nodes)
    ir.convenience.replace_all_uses_with(wide, logits)
    node.graph.remove(node, safe=True)


def constant(outer: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer of the outermost graph."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    outer.register_initializer(value)
    return value


def typed(model: ir.Model) -> ir.Model:
    """The model with its values' types, and each constant of the type that it is used as from the start."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    for node in list(model.graph.all_nodes()):
        if node.op_type == "CastLike":
            constant, like = node.inputs
            array = ir.convenience.get_const_tensor(constant).numpy().astype(like.dtype.numpy())
            [old] = node.outputs
            same = ir.node("Constant", [], {"value": ir.tensor(array)}, outputs=[ir.Value(name=old.name)])
            node.graph.insert_before(node, same)
            ir.convenience.replace_all_uses_with(old, same.outputs[0])
            node.graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)
    return model
