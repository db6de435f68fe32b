"""The whole of generation as one graph, `onnx/generate.onnx`: what a host has that does without the loop."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, ContextError, InputError, OptionError
from diffutron_ort.runtime.cpu import choose_threads
from diffutron_ort.runtime.forks import fork_count
from diffutron_ort.runtime.graph_guard import GENERATION
from diffutron_ort.runtime.outputs import INT, check_arrays, check_ids
from diffutron_ort.runtime.session import Signature, check_contract, open_graph, running
from diffutron_ort.types import Ids

# The options that are inputs of the graph; `early_end` is always on, and the others are as they are by default.
INPUTS = ("max_new_tokens", "steps", "block_length", "temperature", "repetition_penalty", "seed")
TYPES = (np.int64, np.int64, np.int64, np.float32, np.float32, np.uint64)
# The graph's contract.
GIVEN: Signature = {
    "prompt_ids": ("tensor(int64)", 2),
    "max_new_tokens": ("tensor(int64)", 0),
    "steps": ("tensor(int64)", 0),
    "block_length": ("tensor(int64)", 0),
    "temperature": ("tensor(float)", 0),
    "repetition_penalty": ("tensor(float)", 0),
    "seed": ("tensor(int64)", 0),
    "stop_ids": ("tensor(int64)", 2),
}
RETURNED: Signature = {
    "ids": ("tensor(int64)", 2),
    "answer_length": ("tensor(int64)", 0),
    "steps_taken": ("tensor(int64)", 0),
}


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
    """A variant's `generate.onnx`, running on the CPU. May be called after a fork."""

    def __init__(self, bundle: Bundle, variant: str = "fp32", *, threads: int | None = None) -> None:
        """Open the graph.

        Args:
            bundle: Verified.
            variant: Which of its graphs.
            threads: As of a `Session`.

        Raises:
            OptionError: The bundle has no such variant.
            BundleError: It has no such graph, or one that our exporter does not write, or ONNX Runtime refuses it.
        """
        self._variant = bundle.variant(variant)
        if self._variant.generate is None:
            raise BundleError(f"{bundle.folder} has no generation graph for {variant}: export the model again")
        self._bundle = replace(bundle, folder=bundle.folder.absolute())  # a child that opens it may be elsewhere
        self._path = self._bundle.folder / self._variant.generate
        self._threads = choose_threads(threads, bundle.files[self._variant.weights].size)
        self._stops = padded([ids for _, ids in bundle.stop_sequences])
        self._session, self._forks = self._open(), fork_count()

    def __call__(self, prompt_ids: Sequence[int], config: GenerationConfig) -> Generated:
        """Answer a prompt of token ids.

        Raises:
            OptionError: An option is none that the graph has.
            InputError: The prompt is no list of the model's ids, or too long for its context.
            BundleError: The graph returned what it cannot have generated.
            ProviderError: ONNX Runtime fails.
        """
        if missing := missing_options(config):
            raise OptionError(
                f"{', '.join(missing)}: the graph of the whole generation has no such option; use the loop"
            )
        prompt = self._prompt(prompt_ids, config.max_new_tokens)
        if self._forks != fork_count():  # threads do not survive a fork
            self._session, self._forks = self._open(), fork_count()
        with running(self._path):
            found = self._session.run(list(RETURNED), self._feeds(prompt, config))
        return self._checked(found, len(prompt), config.max_new_tokens)

    def _prompt(self, prompt_ids: Sequence[int], new: int) -> Ids:
        """Return a prompt that so many new tokens can follow, int64 [length], before anything of its size is made."""
        context, vocab_size = self._bundle.context_length, self._bundle.vocab_size
        if len(prompt_ids) + new > context:
            raise ContextError(
                f"{len(prompt_ids)} tokens of prompt and {new} new ones are {len(prompt_ids) + new}, the model's "
                f"context is {context}: shorten the prompt, or lower max_new_tokens"
            )
        ids = np.asarray(prompt_ids)
        whole = ids.ndim == 1 and (ids.dtype.kind in "iu" or not ids.size)
        if not whole or ((ids < 0) | (ids >= vocab_size)).any():
            raise InputError(f"prompt_ids={brief(prompt_ids)}: must be token ids, integers from 0 to {vocab_size - 1}")
        return ids.astype(np.int64)

    def _feeds(self, prompt: Ids, config: GenerationConfig) -> dict[str, Any]:
        feeds = {name: np.asarray(getattr(config, name), kind) for name, kind in zip(INPUTS, TYPES, strict=True)}
        feeds |= {"seed": feeds["seed"].view(np.int64), "stop_ids": self._stops}
        return feeds | {"prompt_ids": prompt[None]}

    def _checked(self, found: Sequence[Any], prompt: int, new: int) -> Generated:
        """Return what the graph returned for so many tokens of prompt and new ones, if it can be true."""
        shapes = ((1, prompt + new), (), ())
        check_arrays(
            {n: (value, INT, shape) for n, value, shape in zip(RETURNED, found, shapes, strict=True)}, self._path
        )
        ids, length, steps = found
        check_ids("ids", ids, self._bundle.vocab_size, self._path)
        if not (0 <= length <= new and steps >= 0):
            raise BundleError(
                f"{self._path} returned {length} of {new} tokens, in {steps} steps: export the model again"
            )
        return Generated(ids[0].copy(), int(length), int(steps))  # the memory is ONNX Runtime's otherwise

    def _open(self) -> Any:
        session = open_graph(self._bundle, self._variant, GENERATION, threads=self._threads)
        check_contract(session, GENERATION.name, GIVEN, RETURNED, self._path)
        return session


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
