"""Traces the denoiser to an ONNX graph with named dynamic axes, and writes it with one file of weights beside it."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.export import Dim

from diffutron_ort.runtime.contract import DENOISER_INPUTS, MODEL_AXES
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.network import HEAD_TABLE, Prediction, build

OPSET = 23
"""The first opset with Attention and RotaryEmbedding; every allowed release of ONNX Runtime supports it."""

AXES: Mapping[str, Mapping[int, str]] = {
    value.name: {i: axis for i, axis in enumerate(value.axes) if isinstance(axis, str) and axis not in MODEL_AXES}
    for value in DENOISER_INPUTS
}
"""The graph's inputs in their order, and the names of their dynamic axes."""

EXTERNAL = 256
"""Initializers larger than this many bytes go into the file of weights."""


@dataclass(frozen=True)
class View:
    """An initializer that is stored as rows of another one, from row `first` on."""

    value: ir.Value
    of: ir.Value
    first: int


@dataclass(frozen=True)
class Graph:
    """A denoiser's graph in memory.

    Attributes:
        model: The model, without the metadata that tracing leaves.
        views: The initializers that `save` stores inside others.
    """

    model: ir.Model
    views: list[View] = field(default_factory=list)

    def save(self, path: Path, provenance: Mapping[str, str]) -> None:
        """Write the graph to `path` and its weights to `path` + ".data".

        Args:
            path: The path of the graph, in an existing folder.
            provenance: The metadata of the file.
        """
        self.views.extend(tied(self.model.graph))
        self.model.metadata_props.update(provenance)
        weights = f"{path.name}.data"
        ir.external_data.unload_from_model(self.model, path.parent, weights, size_threshold_bytes=EXTERNAL)
        for view in self.views:
            view.value.const_value = stored_view(view, path.parent)
            self.model.graph.register_initializer(view.value)
        ir.save(self.model, path)


def stored_view(view: View, folder: Path) -> ir.ExternalTensor:
    """Return a view as a tensor in the stored bytes of the initializer that it is a view of."""
    whole, shape = view.of.const_value, view.value.shape
    assert isinstance(whole, ir.ExternalTensor), "it is larger than EXTERNAL"
    assert shape is not None, "a view is made with its shape"
    row = whole.nbytes // rows_of(view.of)
    return ir.ExternalTensor(
        whole.location,
        offset=(whole.offset or 0) + view.first * row,
        length=rows_of(view.value) * row,
        dtype=whole.dtype,
        shape=shape,
        name=name_of(view.value),
        base_dir=folder,
    )


def name_of(value: ir.Value) -> str:
    """Return the name of an input, output or initializer."""
    assert value.name is not None, "inputs, outputs and initializers have names"
    return value.name


def rows_of(value: ir.Value) -> int:
    """Return the number of rows of an initializer."""
    size = value.shape[0] if value.shape is not None else None
    assert isinstance(size, int), "an initializer's shape is known"
    return size


def trace(source: Source) -> Graph:
    """Return the float32 graph of a checkpoint."""
    dims = {name: Dim(name) for name in ("batch", "seq", "past", "n", "u")}
    with quiet():
        program: Any = torch.onnx.export(
            build(source.shape, source.tensors, source.output_vocabulary),
            example(source.shape),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(AXES),
            output_names=list(Prediction._fields),
            dynamic_shapes={name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in AXES.items()},
            verbose=False,
        )
    forget_traces(program.model)
    return Graph(program.model)


def tied(graph: ir.Graph) -> list[View]:
    """Replace the head's own table, if it has one, by a view of the embedding's first rows."""
    if HEAD_TABLE not in graph.initializers:
        return []
    return [View(graph.initializers.pop(HEAD_TABLE), graph.initializers[TABLE], 0)]


def example(shape: Shape) -> tuple[Tensor, ...]:
    """Return inputs to trace with.

    No dynamic axis is 0 or 1, for which tracing specializes. No tensor occurs twice, since tracing would take both for
    one input, and none is a view, since the sizes of its base would interfere.
    """
    sizes: dict[str | int, int] = {"batch": 2, "seq": 6, "past": 3, "n": 4, "u": 5}
    sizes |= {"layers": shape.layers, "hidden": shape.hidden_size}
    return tuple(
        torch.ones([sizes[axis] for axis in value.axes], dtype=getattr(torch, value.dtype)) for value in DENOISER_INPUTS
    )


def forget_traces(model: Any) -> None:
    """Remove the metadata that torch adds to an onnx_ir.Model for debugging, such as paths of source files."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch's exporter prints about packages and names that do not concern this export."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
