"""The whole of generation as one graph, `onnx/generate.onnx`: what a host has that does without the loop."""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, OptionError
from diffutron_ort.manifest import Bundle
from diffutron_ort.sampling import Ids
from diffutron_ort.session import open_graph, usable_threads

# The options that are inputs of the graph; `early_end` is always on, and the others are as they are by default.
INPUTS = ("max_new_tokens", "steps", "block_length", "temperature", "repetition_penalty", "seed")
TYPES = (np.int64, np.int64, np.int64, np.float32, np.float32, np.uint64)


class Generated(NamedTuple):
    """What the graph returns.

    Attributes:
        ids: int64 [length], prompt and answer; `<pad>` after the answer's end.
        answer_length: Tokens of the answer before its end.
        steps_taken: Passes.
    """

    ids: Ids
    answer_length: int
    steps_taken: int


class Generation:
    """A variant's `generate.onnx`, running on the CPU."""

    def __init__(self, bundle: Bundle, variant: str = "fp32", *, threads: int | None = None) -> None:
        """Open the graph.

        Raises:
            OptionError: The bundle has no such variant.
            BundleError: It has no such graph, or ONNX Runtime refuses it.
        """
        path = bundle.variant(variant).generate
        if path is None:
            raise BundleError(f"{bundle.folder} has no generation graph for {variant}: export the model again")
        self._session = open_graph(bundle.folder / path, bundle.least_onnxruntime, threads=threads or usable_threads())
        self._stops = padded([ids for _, ids in bundle.stop_sequences])

    def __call__(self, prompt_ids: Sequence[int], config: GenerationConfig) -> Generated:
        """Answer a prompt of token ids.

        Raises:
            OptionError: An option is none that the graph has.
        """
        if missing := missing_options(config):
            raise OptionError(
                f"{', '.join(missing)}: the graph of the whole generation has no such option; use the loop"
            )
        feeds = {name: np.asarray(getattr(config, name), kind) for name, kind in zip(INPUTS, TYPES, strict=True)}
        feeds |= {"seed": feeds["seed"].view(np.int64), "stop_ids": self._stops}
        feeds["prompt_ids"] = np.array([prompt_ids], np.int64).reshape(1, -1)
        ids, length, steps = self._session.run(["ids", "answer_length", "steps_taken"], feeds)
        return Generated(ids[0], int(length), int(steps))


def missing_options(config: GenerationConfig) -> list[str]:
    """Return the options that the graph has not, of those in which `config` differs from the package's defaults."""
    there = (*INPUTS, "early_end")
    return [f.name for f in fields(config) if f.name not in there and getattr(config, f.name) != f.default]


def padded(sequences: Sequence[Sequence[int]]) -> Ids:
    """Return sequences of ids as one array, int64 [k, longest], filled up with -1."""
    stops = np.full((len(sequences), max(map(len, sequences), default=0)), -1, np.int64)
    for row, sequence in zip(stops, sequences, strict=True):
        row[: len(sequence)] = sequence
    return stops
