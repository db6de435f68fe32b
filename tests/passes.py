"""Passes by hand, and what a graph returns for one whose raw logits are known."""

from dataclasses import replace
from typing import Any

import numpy as np

from diffutron_ort.runtime.contract import REDUCTIONS, PassInput, Predictions
from diffutron_ort.sampler.sampling import CANDIDATES, penalise, reduce_logits
from diffutron_ort.types import Floats, Ids

NEVER = np.float32(-1e30)
"""The logit of a suppressed id."""


def pass_input(input_ids: Ids, position_ids: Ids, rows: Ids, **more: Any) -> PassInput:
    """Return a pass over sequences [batch, seq]; without penalty, suppression and targets but those given."""
    size, rows = len(input_ids), np.asarray(rows, np.int64)
    plain: dict[str, Any] = {
        "seen_ids": np.zeros((size, 0), np.int64),
        "suppress_ids": np.zeros((size, 0), np.int64),
        "repetition_penalty": np.ones(size, np.float32),
        "temperature": np.ones(size, np.float32),
        "target_ids": np.zeros((rows.size, 0), np.int64),
    }
    return PassInput(np.asarray(input_ids), np.asarray(position_ids), rows, **(plain | more))


def predicted(raw: Floats, batch: PassInput, candidates: int = CANDIDATES, *, penalised: bool = True) -> Predictions:
    """Return what a graph says of the raw logits [n, vocab] of a pass; entropies that nobody wants are NaN.

    With `penalised=False` it is a graph that knows no repetition penalty.
    """
    batch = batch if penalised else replace(batch, seen_ids=batch.seen_ids[:, :0])
    sequence = batch.rows // batch.input_ids.shape[1]
    reduced = [_reduced(row, batch, s, candidates) for row, s in zip(raw, sequence, strict=True)]
    joined = {name: np.concatenate([getattr(row, name) for row in reduced]) for name in REDUCTIONS}
    if not batch.want_entropy:
        joined["entropy"] = np.full_like(joined["entropy"], np.nan)
    targets = np.take_along_axis(raw, batch.target_ids, axis=1)
    return Predictions(**joined, target_logits=targets, logits=raw if batch.want_logits else None)


def _reduced(row: Floats, batch: PassInput, s: int, candidates: int) -> Predictions:
    """Return what is said of one row [vocab] of sequence `s`."""
    logits = penalise(row[None], batch.seen_ids[s], float(batch.repetition_penalty[s]))
    logits[:, batch.suppress_ids[s]] = NEVER
    return reduce_logits(logits, float(batch.temperature[s]), candidates)
