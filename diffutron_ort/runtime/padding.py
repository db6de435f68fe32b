"""Passes of few shapes, for devices that prepare themselves anew for every shape: a batch padded, its answer cut."""

from dataclasses import replace

import numpy as np

from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort.types import Ids

TOKENS = 32  # lengths of sequences are multiples of it
LEAST = 8  # rows, and seen ids, are so many or a doubling of it


def padded(batch: PassInput) -> PassInput:
    """Return a batch that predicts the same of its first rows, in shapes that come again.

    Sequences get tokens at position -1, which no token sees; the last row and the last seen id are repeated, or the
    first token's row where there is none.
    """
    seq = batch.input_ids.shape[1]
    longer = _multiple(seq) - seq
    rows = batch.rows // seq * (seq + longer) + batch.rows % seq
    return replace(
        batch,
        input_ids=_widened(batch.input_ids, 0),
        position_ids=_widened(batch.position_ids, -1),
        rows=_repeated(rows if rows.size else np.zeros(1, np.int64)),
        seen_ids=_repeated(batch.seen_ids),
    )


def cut(predictions: Predictions, rows: int) -> Predictions:
    """Return the predictions of the first `rows` rows. Caches stay as long as the padded pass."""
    names = ("top_ids", "top_logits", "rest", "rest_tempered", "entropy")
    logits = predictions.logits
    values = {name: getattr(predictions, name)[:rows] for name in names}
    return replace(predictions, **values, logits=None if logits is None else logits[:rows])


def _multiple(length: int) -> int:
    return -(-length // TOKENS) * TOKENS


def _widened(ids: Ids, filler: int) -> Ids:
    """Return `ids` [batch, seq] with columns of `filler` up to a multiple of TOKENS."""
    return np.pad(ids, ((0, 0), (0, _multiple(ids.shape[1]) - ids.shape[1])), constant_values=filler)


def _repeated(ids: Ids) -> Ids:
    """Return `ids` [..., m] with the last one repeated, up to LEAST or a doubling of it."""
    count = ids.shape[-1]
    wanted = max(LEAST, 1 << (count - 1).bit_length())
    return np.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, wanted - count)], mode="edge")
