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
        """Return the number of places a sequence."""
        return int(self.key.shape()[2])


class SequenceCache:
    """The keys and values of one sequence: a row of a store.

    Attributes:
        store: Where they are. Sequences that share a pass are moved to one store first.
        row: Which sequence of the store.
    """

    def __init__(self, store: Store, row: int) -> None:
        self.store, self.row = store, row


def caches_of(store: Store) -> list[SequenceCache]:
    """Return a cache for each sequence of a store."""
    return [SequenceCache(store, row) for row in range(store.batch)]


def common_store(caches: Sequence[SequenceCache], device: str) -> Store:
    """Return the store that holds just these sequences, in this order; move them to a new one if none does.

    Sequences that stay together share a store from pass to pass, so nothing is copied until one joins or leaves.

    Args:
        caches: One for each sequence.
        device: Where ONNX Runtime keeps the values: `cpu` or `cuda`.
    """
    store = caches[0].store
    places = [(cache.store, cache.row) for cache in caches]
    if len(caches) == store.batch and all(s is store and r == i for i, (s, r) in enumerate(places)):
        return store
    store = Store(*(_stacked([(s[part], row) for s, row in places], device) for part in range(len(Store._fields))))
    for row, cache in enumerate(caches):
        cache.store, cache.row = store, row
    return store


def _stacked(parts: Sequence[tuple[Any, int]], device: str) -> Any:
    """Return rows of OrtValues [layers, batch, seq, hidden] as one, shorter sequences padded with zeros."""
    from onnxruntime import OrtValue  # loaded long before there is a cache

    read = {id(value): value.numpy() for value, _ in parts}
    rows = [read[id(value)][:, row] for value, row in parts]  # [layers, seq, hidden] each
    layers, hidden = rows[0].shape[0], rows[0].shape[2]
    together = np.zeros((layers, len(rows), max(row.shape[1] for row in rows), hidden), np.float32)
    for i, row in enumerate(rows):
        together[:, i, : row.shape[1]] = row
    return keep_in_children(OrtValue.ortvalue_from_numpy(together, device))
