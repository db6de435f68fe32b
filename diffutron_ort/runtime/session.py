"""Run the denoiser of a bundle's variant."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.errors import OptionError, ProviderError
from diffutron_ort.runtime.contract import (
    DENOISER_INPUTS,
    DENOISER_OUTPUTS,
    OWN_INPUTS,
    REDUCTIONS,
    PassInput,
    Predictions,
)
from diffutron_ort.runtime.contract_checks import check_predictions, check_signature, check_sizes, check_store
from diffutron_ort.runtime.cpu import choose_threads
from diffutron_ort.runtime.forks import fork_count, keep_in_children
from diffutron_ort.runtime.graph_guard import DENOISER
from diffutron_ort.runtime.kv_cache import SequenceCache, Store, caches_of, common_store
from diffutron_ort.runtime.opening import import_onnxruntime, open_graph, running
from diffutron_ort.runtime.padding import TOKENS, pad_to_bucket, unpad
from diffutron_ort.runtime.providers import (
    Provider,
    automatic_providers,
    check_variant,
    named_providers,
    provider_of,
    unavailable,
)

_PAST_INPUTS = tuple(value for value in DENOISER_INPUTS if "past" in value.axes)


class Session:
    """The `Forward` of a bundle's variant. May be called from several threads, and after a fork.

    Attributes:
        batch_invariant: As for the variant.
        threads: Threads of an operator.
        spin: Whether idle threads busy-wait.
    """

    def __init__(
        self,
        bundle: Bundle,
        variant: str | None = None,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        spin: bool = True,
    ) -> None:
        """Open the graph.

        Args:
            bundle: A verified bundle.
            variant: The name of its variant; None is its default.
            providers: Short names, or ONNX Runtime's own, the preferred first; None takes the best that is available
                and can run the variant.
            threads: Threads of an operator; None takes as many as this process may use, or one for a small model on a
                busy machine.
            spin: Whether idle threads busy-wait instead of blocking: lower latency, but they use the CPU.

        Raises:
            OptionError: An argument is not allowed, or the bundle has no such variant.
            ProviderError: ONNX Runtime is missing or too old, or a provider that was asked for is not available.
            BundleError: ONNX Runtime refuses the graph, or the graph is not a denoiser.
        """
        self._bundle = replace(bundle, folder=bundle.folder.absolute())  # a child that opens it may be elsewhere
        self._name = bundle.default_variant if variant is None else variant
        self._variant = bundle.variant(self._name)
        self.batch_invariant = self._variant.batch_invariant
        self._asked = named_providers(providers)
        check_variant(bundle, self._name, self._asked)
        self.threads = choose_threads(threads, bundle.files[self._variant.weights].size)
        if type(spin) is not bool:
            raise OptionError(f"spin={brief(spin)}: must be True or False")
        self.spin = spin
        self._session, self._forks = self._open(), fork_count()
        self._provider = provider_of(self.providers[0])
        self._predictable = np.zeros(bundle.vocab_size, bool)
        self._predictable[slice(None) if bundle.output_vocabulary is None else list(bundle.output_vocabulary)] = True

    def __repr__(self) -> str:
        """Return which variant runs, and where."""
        provider = provider_of(self.providers[0]).name
        return f"{self._name} on {provider}, {self.threads} {'thread' if self.threads == 1 else 'threads'}"

    @property
    def providers(self) -> list[str]:
        """Full names of the execution providers in use."""
        return list(self._session.get_providers())

    def __call__(self, given: PassInput, /, *, logits: bool = False) -> Predictions:
        """Run one pass.

        Raises:
            ProviderError: ONNX Runtime fails.
            BundleError: The graph returned what no denoiser returns.
        """
        if self._forks != fork_count():  # threads do not survive a fork
            self._session, self._forks = self._open(), fork_count()
        names = (*REDUCTIONS, "logits") if logits else REDUCTIONS
        with running(self._path):
            batch = pad_to_bucket(given) if self._in_buckets else given
            bound = batch.past or batch.return_kv or self._in_buckets
            found = (self._run_bound if bound else self._run)(batch, names)
            check_predictions(found, len(batch.rows), self._predictable, self._path, logits=logits)
            found = unpad(found, len(given.rows))
            return scatter_to_vocab(found, self._bundle.output_vocabulary, self._bundle.vocab_size)

    def _run(self, batch: PassInput, names: Sequence[str]) -> Predictions:
        """Run a pass without a cache."""
        feeds = _own_feeds(batch) | self._empty_past(len(batch.input_ids))
        return Predictions(*self._session.run(names, feeds))

    def _run_bound(self, batch: PassInput, names: Sequence[str]) -> Predictions:
        """Run a pass that reads or returns keys and values, which stay in the provider's memory."""
        binding = self._session.io_binding()
        for name, array in (_own_feeds(batch) | self._bind_past(binding, batch)).items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name)
        for name in Store._fields if batch.return_kv else ():
            binding.bind_output(name, self._provider.device)
        self._session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        read = dict(zip(names, (value.numpy() for value in outputs[: len(names)]), strict=True))
        if not batch.return_kv:
            return Predictions(**read)
        store = Store(*map(keep_in_children, outputs[len(names) :]))
        size, seq = batch.input_ids.shape
        sizes = {"layers": self._bundle.layers, "batch": size, "seq": seq, "hidden": self._bundle.hidden_size}
        check_store(store, sizes, self._path)
        lengths = (batch.position_ids >= 0).sum(axis=1).tolist()
        return Predictions(**read, kv_caches=caches_of(store, lengths))

    def _bind_past(self, binding: Any, batch: PassInput) -> dict[str, Any]:
        """Bind the keys and values of earlier passes, if there are any, and return the feeds that go with them."""
        past = batch.past
        if past is None:
            return self._empty_past(len(batch.input_ids))
        caches = [cache for cache in past.caches if isinstance(cache, SequenceCache)]
        assert len(caches) == len(past.caches), "a cache is what a pass of a session returned"
        store = common_store(caches, self._provider.device, TOKENS if self._provider.in_buckets else 1)
        for name, value in zip(("past_key", "past_value"), store, strict=True):
            binding.bind_ortvalue_input(name, value)
        missing = store.seq - past.position_ids.shape[1]
        return {"past_position_ids": np.pad(past.position_ids, ((0, 0), (0, missing)), constant_values=-1)}

    @property
    def _path(self) -> Path:
        return self._bundle.folder / self._variant.graph

    @property
    def _in_buckets(self) -> bool:
        return self._provider.in_buckets

    def _empty_past(self, size: int) -> dict[str, Any]:
        """Return the inputs of no past: those of the contract, for so many sequences."""
        sizes = {"layers": self._bundle.layers, "batch": size, "past": 0, "hidden": self._bundle.hidden_size}
        return {value.name: np.zeros(value.shape(sizes), value.dtype) for value in _PAST_INPUTS}

    def _open(self) -> Any:
        providers = self._available_providers()
        session = open_graph(
            self._bundle, self._variant, DENOISER, providers=providers, threads=self.threads, spin=self.spin
        )
        _require(self._asked, session.get_providers())
        check_signature(session, DENOISER.name, DENOISER_INPUTS, DENOISER_OUTPUTS, self._path)
        check_sizes(session, self._path, self._bundle)
        return session

    def _available_providers(self) -> list[Provider]:
        """Return the providers that were asked for, or the automatic ones."""
        available = import_onnxruntime(self._bundle.least_onnxruntime).get_available_providers()
        _require(self._asked, available)
        return self._asked or automatic_providers(self._bundle, self._name, available)


def _require(providers: Sequence[Provider], available: Sequence[str]) -> None:
    """Raise ProviderError unless ONNX Runtime has all of `providers`."""
    for provider in providers:
        if provider.full_name not in available:
            raise ProviderError(unavailable(provider, available))


def scatter_to_vocab(predictions: Predictions, output_vocabulary: Sequence[int] | None, vocab_size: int) -> Predictions:
    """Return predictions whose `logits`, if any, are [n, vocab]: -inf for ids that the graph cannot predict."""
    if predictions.logits is None or output_vocabulary is None:
        return predictions
    logits = np.full((len(predictions.logits), vocab_size), -np.inf, predictions.logits.dtype)
    logits[:, output_vocabulary] = predictions.logits
    return replace(predictions, logits=logits)


def _own_feeds(batch: PassInput) -> dict[str, Any]:
    """Return the inputs that describe the tokens which the pass computes."""
    return {name: getattr(batch, name) for name in OWN_INPUTS}
