"""The denoiser -> an ONNX file with named dynamic axes, provenance, and one file of weights beside it."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from .architecture import Shape
from .network import Prediction, build
from .source import Source

OPSET = 23
"""The first with Attention and RotaryEmbedding; ONNX Runtime knows them from 1.23.2 on."""

AXES: Mapping[str, Mapping[int, str]] = {
    "input_ids": {0: "batch", 1: "seq"},
    "position_ids": {0: "batch", 1: "seq"},
    "past_position_ids": {0: "batch", 1: "past"},
    "past_key": {1: "batch", 2: "past"},
    "past_value": {1: "batch", 2: "past"},
    "rows": {0: "n"},
    "seen_ids": {0: "batch", 1: "u"},
    "repetition_penalty": {0: "batch"},
    "temperature": {0: "batch"},
}
"""The graph's inputs in their order, and the names of their dynamic axes."""

FLOATS = ("past_key", "past_value", "repetition_penalty", "temperature")
"""The inputs that are float32; the others are int64."""


def write_graph(source: Source, path: Path, provenance: Mapping[str, str]) -> None:
    """Writes the float32 graph to `path` and its weights to `path` + ".data".

    Args:
        source: the checkpoint.
        path: where to; the folder is there.
        provenance: goes into the file's metadata.
    """
    dims = {name: Dim(name) for name in ("batch", "seq", "past", "n", "u")}
    with quiet():
        program: Any = torch.onnx.export(
            build(source.shape, source.tensors),
            example(source.shape),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(AXES),
            output_names=list(Prediction._fields),
            dynamic_shapes={name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in AXES.items()},
            verbose=False,
        )
    forget_traces(program.model)
    program.model.metadata_props.update(provenance)
    program.save(path, external_data=True)


def example(shape: Shape) -> tuple[Tensor, ...]:
    """Inputs to trace with.

    No dynamic axis is 0 or 1, for which tracing specialises. No tensor is there twice, for tracing takes one for both,
    nor is one a view, whose base's sizes get in the way.
    """
    sizes = {"batch": 2, "seq": 6, "past": 3, "n": 4, "u": 5}
    cached = {0: shape.layers, 3: shape.hidden_size}
    fixed = {"past_key": cached, "past_value": cached}
    inputs = []
    for name, axes in AXES.items():
        dims = {axis: sizes[dim] for axis, dim in axes.items()} | fixed.get(name, {})
        size = [dims[axis] for axis in sorted(dims)]
        inputs.append(torch.ones(size, dtype=torch.float32 if name in FLOATS else torch.int64))
    return tuple(inputs)


def forget_traces(model: Any) -> None:
    """Takes out of an onnx_ir.Model what torch notes for its own debugging, the paths of its source files among it."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what torch's exporter says about packages and names that do not concern this export."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
