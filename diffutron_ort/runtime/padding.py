"""Pad passes to few shapes, for devices on which each new shape costs time."""

from dataclasses import replace

import numpy as np

from diffutron_ort.runtime.contract import REDUCTIONS, PassInput, Predictions
from diffutron_ort.types import Ids

TOKENS = 32  # lengths of sequences are padded to a multiple of it
LEAST = 8  # numbers of rows and of seen ids are padded to 8, 16, 32, …


def pad_to_bucket(batch: PassInput) -> PassInput:
    """Return a pass with padded shapes that predicts the same for its first rows.

    Sequences are padded with tokens at position -1, which no token sees. The last row and the last seen id are
    repeated; without any rows, the first token's row is.
    """
    seq = batch.input_ids.shape[1]
    longer = _multiple(seq) - seq
    rows = batch.rows // seq * (seq + longer) + batch.rows % seq
    return replace(
        batch,
        input_ids=_pad_sequences(batch.input_ids, 0),
        position_ids=_pad_sequences(batch.position_ids, -1),
        rows=_repeat_last(rows if rows.size else np.zeros(1, np.int64)),
        seen_ids=_repeat_last(batch.seen_ids),
    )


def unpad(predictions: Predictions, rows: int) -> Predictions:
    """Return the predictions of the first `rows` rows. Caches stay as long as the padded pass."""
    logits = predictions.logits
    values = {name: getattr(predictions, name)[:rows] for name in REDUCTIONS}
    return replace(predictions, **values, logits=None if logits is None else logits[:rows])


def _multiple(length: int) -> int:
    return -(-length // TOKENS) * TOKENS


def _pad_sequences(ids: Ids, filler: int) -> Ids:
    """Return `ids` [batch, seq] with `seq` padded to a multiple of TOKENS."""
    return np.pad(ids, ((0, 0), (0, _multiple(ids.shape[1]) - ids.shape[1])), constant_values=filler)


def _repeat_last(ids: Ids) -> Ids:
    """Return `ids` [..., m] with the last one repeated until m is LEAST times a power of 2."""
    count = ids.shape[-1]
    wanted = max(LEAST, 1 << (count - 1).bit_length())
    return np.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, wanted - count)], mode="edge")
