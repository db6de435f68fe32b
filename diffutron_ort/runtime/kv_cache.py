"""Keys and values between passes, in ONNX Runtime's own memory."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.runtime.forks import keep_in_children


class LayerKV(NamedTuple):
    """The keys and values of one layer.

    Attributes:
        key: OrtValue, float32 [batch, seq, hidden], after rotary embedding.
        value: OrtValue, float32 [batch, seq, hidden].
    """

    key: Any
    value: Any


class Store:
    """The keys and values of several sequences, as a pass returned them. A forked child never destroys them.

    Attributes:
        layers: Those of each layer.
        batch: The number of sequences.
        seq: The number of places per sequence.
    """

    def __init__(self, layers: Sequence[LayerKV]) -> None:
        self.layers = tuple(layers)
        self.batch, self.seq, _ = map(int, self.layers[0].key.shape())
        keep_in_children(self)


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
    together = Store([_layer(caches, layer, width, device) for layer in range(len(store.layers))])
    for row, cache in enumerate(caches):
        cache.store, cache.row = together, row
    return together


def _layer(caches: Sequence[SequenceCache], layer: int, width: int, device: str) -> LayerKV:
    """Return what caches hold of one layer, padded with zeros to `width` places."""
    parts = zip(*(cache.store.layers[layer] for cache in caches), strict=True)
    return LayerKV(*(_stacked(values, caches, width, device) for values in parts))


@lru_cache(maxsize=64)
def no_past(batch: int, hidden: int, device: str) -> LayerKV:
    """Return keys and values of no places, [batch, 0, hidden], which stand in for those of every layer."""
    from onnxruntime import OrtValue  # loaded long before there is a pass

    nothing = OrtValue.ortvalue_from_numpy(np.zeros((batch, 0, hidden), np.float32), device)
    return LayerKV(nothing, nothing)


def _stacked(values: Sequence[Any], caches: Sequence[SequenceCache], width: int, device: str) -> Any:
    """Return the rows of caches in OrtValues [batch, seq, hidden] as one, padded with zeros to `width`."""
    from onnxruntime import OrtValue  # loaded long before there is a cache

    read = {id(value): value.numpy() for value in values}
    together = np.empty((len(caches), width, read[id(values[0])].shape[-1]), np.float32)
    for row, value, cache in zip(together, values, caches, strict=True):
        row[: cache.length] = read[id(value)][cache.row, : cache.length]
        row[cache.length :] = 0
    return OrtValue.ortvalue_from_numpy(together, device)
