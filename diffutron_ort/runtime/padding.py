"""Pad passes to few shapes, for devices on which each new shape costs time."""

from dataclasses import replace

import numpy as np

from diffutron_ort.runtime.contract import REDUCTIONS, PassInput, Predictions
from diffutron_ort.types import Ids

TOKENS = 32  # lengths of sequences are padded to a multiple of it
LEAST = 8  # numbers of rows, and of ids unless there are none, are padded to 8, 16, 32, …


def pad_to_bucket(batch: PassInput) -> PassInput:
    """Return a pass with padded shapes that predicts the same for its first rows.

    Sequences are padded with tokens at position -1, which no token sees. The last row, seen id, suppressed id and
    target are repeated; without any rows, the first token's row is.
    """
    seq = batch.input_ids.shape[1]
    rows = batch.rows // seq * _multiple(seq) + batch.rows % seq
    targets = batch.target_ids
    if not rows.size:
        rows, targets = np.zeros(1, np.int64), np.zeros((1, targets.shape[1]), np.int64)
    return replace(
        batch,
        input_ids=widened(batch.input_ids, _multiple(seq), 0),
        position_ids=widened(batch.position_ids, _multiple(seq), -1),
        rows=_repeat_last(rows),
        seen_ids=_repeat_last(batch.seen_ids),
        suppress_ids=_repeat_last(batch.suppress_ids),
        target_ids=_repeat_last(_repeat_last(targets).T).T,
    )


def unpad(predictions: Predictions, rows: int, targets: int) -> Predictions:
    """Return the predictions of the first `rows` rows and `targets`. Caches stay as long as the padded pass."""
    logits = predictions.logits
    values = {name: getattr(predictions, name)[:rows] for name in REDUCTIONS}
    return replace(
        predictions,
        **values,
        target_logits=predictions.target_logits[:rows, :targets],
        logits=None if logits is None else logits[:rows],
    )


def widened(ids: Ids, width: int, filler: int) -> Ids:
    """Return `ids` [batch, m] with `filler` on the right, up to `width`."""
    missing = width - ids.shape[1]
    return np.pad(ids, ((0, 0), (0, missing)), constant_values=filler) if missing else ids


def _multiple(length: int) -> int:
    return -(-length // TOKENS) * TOKENS


def _repeat_last(ids: Ids) -> Ids:
    """Return `ids` [..., m] with the last one repeated until m is LEAST times a power of 2; none stay none."""
    count = ids.shape[-1]
    wanted = max(LEAST, 1 << (count - 1).bit_length()) if count else 0
    return np.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, wanted - count)], mode="edge" if count else "constant")
