"""Rows of ids of different lengths, as one array."""

from collections.abc import Sequence

import numpy as np

from diffutron_ort.types import Ids


def padded(rows: Sequence[Ids], filler: int) -> Ids:
    """Return rows of ids as one array [batch, longest], filled up on the right."""
    filled = np.full((len(rows), max(map(len, rows))), filler, np.int64)
    for line, ids in zip(filled, rows, strict=True):
        line[: len(ids)] = ids
    return filled


def repeated(rows: Sequence[Ids], multiple: int = 1) -> Ids:
    """Return rows of ids as one array [batch, m], filled up on the right by each row's last id, or by 0.

    m is the least multiple of `multiple` that holds the longest.
    """
    longest = max(ids.size for ids in rows)
    filled = np.zeros((len(rows), -(-longest // multiple) * multiple), np.int64)
    for line, ids in zip(filled, rows, strict=True):
        line[: ids.size] = ids
        line[ids.size :] = ids[-1] if ids.size else 0
    return filled
