"""Run the generation graph, `onnx/generate.onnx`, which hosts without the sampler use."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, ContextError, InputError, OptionError
from diffutron_ort.runtime.contract import GENERATION_INPUTS, GENERATION_OPTIONS, GENERATION_OUTPUTS, Value
from diffutron_ort.runtime.contract_checks import check_arrays, check_ids, check_signature
from diffutron_ort.runtime.cpu import choose_threads
from diffutron_ort.runtime.forks import fork_count
from diffutron_ort.runtime.graph_guard import GENERATION
from diffutron_ort.runtime.opening import open_graph, running
from diffutron_ort.types import Ids

_OPTIONS = [value for value in GENERATION_INPUTS if value.name in GENERATION_OPTIONS]


class Generated(NamedTuple):
    """What the graph returns.

    Attributes:
        ids: int64 [length], prompt and answer; `<pad>` after the answer's end.
        answer_length: Number of tokens of the answer before its end.
        steps_taken: Number of passes.
    """

    ids: Ids
    answer_length: int
    steps_taken: int


class Generation:
    """A variant's `generate.onnx`, running on the CPU. May be called after a fork."""

    def __init__(self, bundle: Bundle, variant: str | None = None, *, threads: int | None = None) -> None:
        """Open the graph.

        Args:
            bundle: A verified bundle.
            variant: The name of its variant; None is its default.
            threads: As for a `Session`.

        Raises:
            OptionError: The bundle has no such variant.
            BundleError: It has no such graph, or one that our exporter does not write, or ONNX Runtime refuses it.
        """
        name = bundle.default_variant if variant is None else variant
        self._variant = bundle.variant(name)
        if self._variant.generate is None:
            raise BundleError(f"{bundle.folder} has no generation graph for {name}: export the model again")
        self._bundle = replace(bundle, folder=bundle.folder.absolute())  # a child that opens it may be elsewhere
        self._path = self._bundle.folder / self._variant.generate
        self._threads = choose_threads(threads, bundle.files[self._variant.weights].size)
        self._stops = stack([ids for _, ids in bundle.stop_sequences])
        self._session, self._forks = self._open(), fork_count()

    def __call__(self, prompt_ids: Sequence[int], config: GenerationConfig) -> Generated:
        """Answer a prompt of token ids.

        Raises:
            OptionError: The graph does not have an option that differs from its default.
            InputError: The prompt is not a list of the model's ids.
            ContextError: The prompt is too long for the model's context.
            BundleError: The graph returned what no generation returns.
            ProviderError: ONNX Runtime fails.
        """
        if missing := missing_options(config):
            raise OptionError(f"{', '.join(missing)}: the generation graph has no such option; use Diffutron.generate")
        prompt = self._prompt(prompt_ids, config.max_new_tokens)
        if self._forks != fork_count():  # threads do not survive a fork
            self._session, self._forks = self._open(), fork_count()
        with running(self._path):
            found = self._session.run(list(Generated._fields), self._feeds(prompt, config))
        return self._checked(found, len(prompt), config.max_new_tokens)

    def _prompt(self, prompt_ids: Sequence[int], new: int) -> Ids:
        """Return a prompt as int64 [length]; check that it and `new` tokens fit before anything of its size is made."""
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
        feeds = {value.name: _scalar(value, getattr(config, value.name)) for value in _OPTIONS}
        return feeds | {"prompt_ids": prompt[None], "stop_ids": self._stops}

    def _checked(self, found: Sequence[Any], prompt: int, new: int) -> Generated:
        """Return what the graph returned for `prompt` and `new` tokens, once it is known to make sense."""
        check_arrays(GENERATION_OUTPUTS, found, {"total": prompt + new}, self._path)
        ids, length, steps = found
        check_ids("ids", ids, self._bundle.vocab_size, self._path)
        if not (0 <= length <= new and steps >= 0):
            raise BundleError(
                f"{self._path} returned {length} of {new} tokens, in {steps} steps: export the model again"
            )
        return Generated(ids[0].copy(), int(length), int(steps))  # a copy: the memory is ONNX Runtime's

    def _open(self) -> Any:
        session = open_graph(self._bundle, self._variant, GENERATION, threads=self._threads)
        check_signature(session, GENERATION.name, GENERATION_INPUTS, GENERATION_OUTPUTS, self._path)
        return session


def missing_options(config: GenerationConfig) -> list[str]:
    """Return the options that differ from the package's defaults and that the graph does not have.

    The graph always ends early.
    """
    known = (*GENERATION_OPTIONS, "early_end")
    return [f.name for f in fields(config) if f.name not in known and getattr(config, f.name) != f.default]


def stack(sequences: Sequence[Sequence[int]]) -> Ids:
    """Return sequences of ids as one array, int64 [k, longest], padded with -1."""
    stops = np.full((len(sequences), max(map(len, sequences), default=0)), -1, np.int64)
    for row, sequence in zip(stops, sequences, strict=True):
        row[: len(sequence)] = sequence
    return stops


def _scalar(value: Value, option: float) -> NDArray[Any]:
    """Return the value of an option as the graph's scalar; an integer keeps its 64 bits, even if they are unsigned."""
    if value.dtype == "int64":
        return np.asarray(int(option) % 2**64, np.uint64).view(np.int64)
    return np.asarray(option, value.dtype)
