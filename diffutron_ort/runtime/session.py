"""Run the denoiser of a bundle's variant."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, starmap
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
    Value,
    for_layers,
)
from diffutron_ort.runtime.contract_checks import (
    check_kept,
    check_layers,
    check_predictions,
    check_signature,
    check_sizes,
)
from diffutron_ort.runtime.cpu import choose_threads
from diffutron_ort.runtime.forks import fork_count
from diffutron_ort.runtime.graph_guard import DENOISER
from diffutron_ort.runtime.kv_cache import LayerKV, SequenceCache, Store, caches_of, common_store, no_past
from diffutron_ort.runtime.opening import open_graph, running
from diffutron_ort.runtime.padding import TOKENS, pad_to_bucket, unpad, widened
from diffutron_ort.runtime.providers import Provider, check_variant, named_providers, provider_of
from diffutron_ort.runtime.usable import check_loaded, usable_providers, warn_of_cpu

_FETCHED = (*REDUCTIONS, "target_logits")


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
        self._past_names = _layer_names(DENOISER_INPUTS, bundle.layers)
        self._kept_names = _layer_names(DENOISER_OUTPUTS, bundle.layers)
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

    def __call__(self, given: PassInput, /) -> Predictions:
        """Run one pass.

        Raises:
            ProviderError: ONNX Runtime fails.
            BundleError: The graph returned what no denoiser returns.
        """
        if self._forks != fork_count():  # threads do not survive a fork
            self._session, self._forks = self._open(), fork_count()
        with running(self._path):
            batch = pad_to_bucket(given) if self._in_buckets else given
            found = self._run(batch)
            check_predictions(found, batch, self._predictable, self._path)
            found = unpad(found, *given.target_ids.shape) if self._in_buckets else found
            return scatter_to_vocab(found, self._bundle.output_vocabulary, self._bundle.vocab_size)

    def _run(self, batch: PassInput) -> Predictions:
        """Run a pass; keys and values stay in the provider's memory."""
        binding = self._session.io_binding()
        self._bind_past(binding, batch)
        for name in OWN_INPUTS:
            binding.bind_cpu_input(name, np.asarray(getattr(batch, name), order="C"))
        names = (*_FETCHED, "logits") if batch.want_logits else _FETCHED
        for name in names:
            binding.bind_output(name)
        for name in self._kept_names if batch.return_kv else ():
            binding.bind_output(name, self._provider.device)
        self._session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        read = {name: value.numpy() for name, value in zip(names, outputs, strict=False)}
        caches = self._caches(outputs[len(names) :], batch) if batch.return_kv else None
        return Predictions(**read, kv_caches=caches)

    def _bind_past(self, binding: Any, batch: PassInput) -> None:
        """Bind the keys and values of earlier passes, or nothing in their place."""
        device, past = self._provider.device, batch.past
        if past is None:
            size = len(batch.input_ids)
            layers = (no_past(size, self._bundle.hidden_size, device),) * self._bundle.layers
            places = np.zeros((size, 0), np.int64)
        else:
            caches = [cache for cache in past.caches if isinstance(cache, SequenceCache)]
            assert len(caches) == len(past.caches), "a cache is what a pass of a session returned"
            store = common_store(caches, device, TOKENS if self._in_buckets else 1)
            layers, places = store.layers, widened(past.position_ids, store.seq, -1)
        binding.bind_cpu_input("past_position_ids", places)
        for name, value in zip(self._past_names, chain.from_iterable(layers), strict=True):
            binding.bind_ortvalue_input(name, value)

    def _caches(self, values: Sequence[Any], batch: PassInput) -> list[SequenceCache]:
        """Return the cache of each sequence, given the keys and values that a pass returned."""
        size, seq = batch.input_ids.shape
        check_kept(values, {"batch": size, "seq": seq, "hidden": self._bundle.hidden_size}, self._path)
        store = Store(list(starmap(LayerKV, zip(values[::2], values[1::2], strict=True))))
        return caches_of(store, (batch.position_ids >= 0).sum(axis=1).tolist())

    @property
    def _path(self) -> Path:
        return self._bundle.folder / self._variant.graph

    @property
    def _in_buckets(self) -> bool:
        return self._provider.in_buckets

    def _open(self) -> Any:
        session = self._opened(usable_providers(self._asked, self._bundle, self._name))
        check_loaded(self._asked, session.get_providers())
        check_layers(session, self._path, self._bundle)
        inputs, outputs = (for_layers(table, self._bundle.layers) for table in (DENOISER_INPUTS, DENOISER_OUTPUTS))
        check_signature(session, DENOISER.name, inputs, outputs, self._path)
        check_sizes(session, self._path, self._bundle)
        return session

    def _opened(self, providers: Sequence[Provider]) -> Any:
        """Open the graph; if an automatic provider fails, with the last one alone, which is the CPU's."""
        how: dict[str, Any] = {"threads": self.threads, "spin": self.spin}
        try:
            return open_graph(self._bundle, self._variant, DENOISER, providers=providers, **how)
        except ProviderError as error:
            if self._asked or len(providers) == 1:
                raise
            warn_of_cpu(str(error))
            return open_graph(self._bundle, self._variant, DENOISER, providers=providers[-1:], **how)


def _layer_names(table: Sequence[Value], layers: int) -> list[str]:
    """Return the names of the keys and values in a table of the contract: key 0, value 0, key 1, and so on."""
    return [value.name for value in for_layers([value for value in table if value.per_layer], layers)]


def scatter_to_vocab(predictions: Predictions, output_vocabulary: Sequence[int] | None, vocab_size: int) -> Predictions:
    """Return predictions whose `logits`, if any, are [n, vocab]: -inf for ids that the graph cannot predict."""
    if predictions.logits is None or output_vocabulary is None:
        return predictions
    logits = np.full((len(predictions.logits), vocab_size), -np.inf, predictions.logits.dtype)
    logits[:, output_vocabulary] = predictions.logits
    return replace(predictions, logits=logits)
