"""Keys and values between passes, in ONNX Runtime's own memory."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.runtime.forks import keep_in_children


class Store(NamedTuple):
    """The keys and values of several sequences, as a pass returned them.

    Attributes:
        key: OrtValue, float32 [layers, batch, seq, hidden], after rotary embedding.
        value: OrtValue, float32 [layers, batch, seq, hidden].
    """

    key: Any
    value: Any

    @property
    def batch(self) -> int:
        """Return the number of sequences."""
        return int(self.key.shape()[1])

    @property
    def seq(self) -> int:
        """Return the number of places per sequence."""
        return int(self.key.shape()[2])


class SequenceCache:
    """The keys and values of one sequence: a row of a store.

    Attributes:
        store: The store that holds them. Sequences that share a pass are moved to one store first.
        row: The index of the sequence in the store.
        length: The number of its places; the store pads it to that of the longest.
    """

    def __init__(self, store: Store, row: int, length: int) -> None:
        self.store, self.row, self.length = store, row, length


def caches_of(store: Store, lengths: Sequence[int]) -> list[SequenceCache]:
    """Return a cache for each sequence of a store; `lengths` are their numbers of places."""
    return [SequenceCache(store, row, length) for row, length in enumerate(lengths)]


def common_store(caches: Sequence[SequenceCache], device: str, multiple: int = 1) -> Store:
    """Return the store that holds just these sequences, in this order; move them to a new one if none does.

    Sequences that stay together share a store from pass to pass, so nothing is copied until one joins or leaves.

    Args:
        caches: One for each sequence.
        device: Where ONNX Runtime keeps the values: `cpu` or `cuda`.
        multiple: The number of places in a new store is one of it.
    """
    store = caches[0].store
    places = [(cache.store, cache.row) for cache in caches]
    if len(caches) == store.batch and all(s is store and r == i for i, (s, r) in enumerate(places)):
        return store
    width = -(-max(cache.length for cache in caches) // multiple) * multiple
    store = Store(*(_stacked([c.store[part] for c in caches], caches, width, device) for part in range(len(store))))
    for row, cache in enumerate(caches):
        cache.store, cache.row = store, row
    return store


def _stacked(values: Sequence[Any], caches: Sequence[SequenceCache], width: int, device: str) -> Any:
    """Return the rows of caches in OrtValues [layers, batch, seq, hidden] as one, padded with zeros to `width`."""
    from onnxruntime import OrtValue  # loaded long before there is a cache

    read = {id(value): value.numpy() for value in values}
    layers, _, _, hidden = read[id(values[0])].shape
    together = np.zeros((layers, len(caches), width, hidden), np.float32)
    for i, (value, cache) in enumerate(zip(values, caches, strict=True)):
        together[:, i, : cache.length] = read[id(value)][:, cache.row, : cache.length]
    return keep_in_children(OrtValue.ortvalue_from_numpy(together, device))
