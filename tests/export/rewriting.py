"""Graphs to rewrite that cost no tracing: those of exported bundles, with the weights of any other checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
import torch

from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.network import build
from diffutron_ort_export.graph.onnx_graph import Graph

NANO = Path(__file__).parents[2] / "models" / "nano"

Tensors = dict[str, torch.Tensor]


def retold(path: Path) -> Callable[[Source], Graph]:
    """What `trace` returns, had from the float32 graph of an exported checkpoint of the same shape."""

    def trace(source: Source) -> Graph:
        model, state = ir.load(path), build(source.shape, source.tensors).state_dict()
        for name, value in model.graph.initializers.items():
            if name in state:
                value.const_value = ir.tensor(state[name].numpy(), name=name)
        return Graph(model)

    return trace


def altered(source: Source, change: Callable[[Tensors], object]) -> Source:
    """A source whose tensors `change` altered in place."""
    tensors = {name: tensor.clone() for name, tensor in source.tensors.items()}
    change(tensors)
    return dataclasses.replace(source, tensors=tensors)


def graph_of(path: Path) -> onnx.GraphProto:
    """A graph without its weights."""
    return onnx.load(path, load_external_data=False).graph


def places(graph: onnx.GraphProto) -> Mapping[str, tuple[int, int]]:
    """Where in the file of weights each initializer begins and ends that is stored there."""
    found = {}
    for initializer in graph.initializer:
        entries = {entry.key: entry.value for entry in initializer.external_data}
        if entries:
            first = int(entries.get("offset", 0))
            found[initializer.name] = first, first + int(entries["length"])
    return found
