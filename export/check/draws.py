"""Which token a uniform can pick if the logits have an error.

If no penalised logit is off by more than e, the odds against drawing a token, or any of a set of tokens, are off by a
factor of at most exp(2e / temperature). The same holds for the m best tokens, whichever they are.
"""

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import Predictions
from diffutron_ort.types import Floats, Ids

SUMS = 1e-6
"""The relative error of a float32 sum over the vocabulary."""

LARGEST = 300.0
"""The largest logarithm of a factor; products with a larger one could overflow."""

Reals = NDArray[np.float64]
Ranks = NDArray[np.intp]


def odds_factor(error: float, temperature: float = 1.0) -> float:
    """Return by what factor an error of the penalised logits can change odds."""
    return float(np.exp(min(2 * error / temperature, LARGEST)))


def drawn_ranks(predictions: Predictions, temperature: float, u: Reals, error: float) -> tuple[Ranks, Ranks]:
    """Return the lowest and the highest rank [n] that the uniforms `u` [n] can pick; k is beyond the candidates."""
    best_first = predictions.top_logits.astype(np.float64)
    upto = np.cumsum(np.exp((best_first - best_first[:, :1]) / temperature), axis=1)  # [n, k]
    total = 1 + predictions.rest_tempered.astype(np.float64)[:, None]
    after, slack, factor = np.maximum(total - upto, 0), SUMS * total, odds_factor(error, temperature)
    here, there = upto * (1 - u[:, None]), after * u[:, None]  # the walk goes on where here <= there
    low, high = (here * factor + slack <= there), (here <= there * factor + slack)
    return low.sum(axis=1), high.sum(axis=1)


def leads(best_first: Reals) -> Reals:
    """Return the distance [n, k] of each candidate's logit to the nearer of its neighbours'; the last one's is 0."""
    gaps = np.pad(-np.diff(best_first), ((0, 0), (1, 1)), constant_values=((0, 0), (np.inf, 0)))  # [n, k + 1]
    return np.minimum(gaps[:, :-1], gaps[:, 1:])


def stays_beyond(logits: Floats, top_ids: Ids, token: int, temperature: float, u: float, error: float) -> bool:
    """Return whether `u` picks the same token, which lies beyond the candidates, whatever the error.

    Args:
        logits: Penalised, [vocab].
        top_ids: The candidates [k].
        token: The one that is drawn.
        temperature: Of the draw.
        u: The row's uniform.
        error: The largest of a penalised logit.
    """
    exact = logits.astype(np.float64)
    is_top = np.isin(np.arange(len(exact)), top_ids)
    surely_top = exact > exact[~is_top].max() + 2 * error
    maybe_top = exact >= exact[is_top].min() - 2 * error
    if maybe_top[token]:
        return False
    weights, lower = np.exp((exact - exact.max()) / temperature), np.arange(len(exact)) < token
    total, factor = weights.sum(), odds_factor(error, temperature)
    before, upto = weights[lower | maybe_top].sum(), weights[lower | surely_top].sum() + weights[token]
    slack = SUMS * total
    return bool(
        before * (1 - u) * factor + slack <= (total - before) * u
        and upto * (1 - u) > (total - upto) * u * factor + slack
    )
