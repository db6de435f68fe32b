"""Checkpoints in memory, altered ones among them; and what a written graph holds."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import tensor_shapes
from diffutron_ort_export.checkpoint.source import Source

NANO = Path(__file__).parents[2] / "models" / "nano"

Tensors = dict[str, NDArray[np.float32]]


class MemoryWeights:
    """Tensors in memory.

    Attributes:
        read: The names of the tensors, in the order in which they were read; in chunks, once a chunk.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], at_once: int = 100) -> None:
        self.tensors, self.at_once = tensors, at_once
        self.read: list[str] = []

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def rows(self, name: str, first: int = 0, end: int | None = None) -> NDArray[np.float32]:
        self.read.append(name)
        return self.tensors[name][first:end].copy()

    def chunks(self, name: str) -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(self.tensors[name]), self.at_once):
            yield self.rows(name, first, first + self.at_once)


def random_weights(shape: Shape, seed: int = 0) -> MemoryWeights:
    """Weights of any shape, large enough that every part of the network matters."""
    random = np.random.default_rng(seed)
    return MemoryWeights(
        {
            name: random.standard_normal(size).astype(np.float32) / np.float32(size[-1]) ** 0.5
            if len(size) == 2
            else 1 + random.standard_normal(size).astype(np.float32) / 3
            for name, size in tensor_shapes(shape).items()
        }
    )


def altered(source: Source, change: Callable[[Tensors], object]) -> Source:
    """A source whose tensors `change` altered in place."""
    tensors = {name: source.weights.rows(name) for name in source.weights.shapes}
    change(tensors)
    return dataclasses.replace(source, weights=MemoryWeights(tensors, 16_384))


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
