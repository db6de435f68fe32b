"""Pure numpy over rows: repetition penalty, guidance, reductions, sampling, confidence.

A row is one masked position whose token is wanted: `n` rows, `k` candidates per row, `vocab` tokens.
"""

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import Predictions
from diffutron_ort.types import Floats, Ids

CANDIDATES = 64


def penalise(logits: Floats, seen_ids: Ids, penalty: float) -> Floats:
    """Return `logits` [n, vocab] with those of `seen_ids` [u] made less likely.

    A logit l becomes l / penalty if it is above 0, else l * penalty (CTRL, arXiv:1909.05858).
    """
    penalised = logits.copy()
    penalised[:, seen_ids] = penalise_all(logits[:, seen_ids], penalty)
    return penalised


def penalise_all(seen: Floats, penalty: float) -> Floats:
    """Return logits, all of which the penalty makes less likely."""
    return np.where(seen > 0, seen / np.float32(penalty), seen * np.float32(penalty))


def guide(conditional: Floats, unconditional: Floats, scale: float) -> Floats:
    """Return logits [n, vocab] pushed away from what the model says without the given tokens (arXiv:2207.12598).

    A piece that is never predicted has -inf in both, and in the result.
    """
    never = np.isneginf(conditional)
    difference = np.subtract(conditional, unconditional, where=~never, out=np.zeros_like(conditional))
    return unconditional + np.float32(scale + 1) * difference


def reduce_logits(logits: Floats, temperature: float, candidates: int = CANDIDATES) -> Predictions:
    """Return what the denoiser's graph would say of penalised `logits` [n, vocab]; a logit may be -inf.

    Args:
        logits: After the penalty and the suppression. The result has neither targets nor logits.
        temperature: Of `rest_tempered`; 1 where none is used.
        candidates: The k of the result, if the vocabulary has as many.
    """
    top_ids = np.stack([_best(row, min(candidates, logits.shape[1])) for row in logits])
    top_logits = np.take_along_axis(logits, top_ids, axis=1)
    others = logits.astype(np.float64) - top_logits[:, :1]  # [n, vocab]
    np.put_along_axis(others, top_ids[:, :1], -np.inf, axis=1)
    odds = np.exp(others)
    rest = odds.sum(axis=1)
    weighted = np.multiply(odds, others, where=odds > 0, out=np.zeros_like(odds)).sum(axis=1)
    entropy = np.log1p(rest) - weighted / (1 + rest)
    tempered = np.exp(others / temperature).sum(axis=1)
    return Predictions(top_ids, top_logits, rest, tempered, entropy, target_logits=top_logits[:, :0])


def _best(row: Floats, k: int) -> Ids:
    """Return the ids of the `k` largest of `row` [vocab], largest first, the lower id first among equals."""
    least = np.partition(row, -k)[-k]
    ids = np.flatnonzero(~(row < least))  # with a NaN, which compares as neither, it is still k ids
    order: NDArray[np.intp] = np.argsort(-row[ids], kind="stable")
    best: Ids = ids[order[:k]].astype(np.int64)
    return best


def draw(predictions: Predictions, temperature: float, u: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each row which of its candidates the uniform `u` [n] picks, and k where it falls beyond them all.

    Inverse sampling of softmax(logits / temperature): the cumulative sum of the candidates, best first, is walked
    until it exceeds u times the sum over the vocabulary.
    """
    total = 1 + predictions.rest_tempered.astype(np.float64)
    walked = _cumulative(predictions.top_logits, temperature) <= (u * total)[:, None]
    choice: NDArray[np.intp] = walked.sum(axis=1)
    return choice


def missing_mass(predictions: Predictions, temperature: float) -> NDArray[np.float64]:
    """Return the probability [n] that `draw` falls beyond a row's candidates."""
    total = 1 + predictions.rest_tempered.astype(np.float64)
    return np.clip(1 - _cumulative(predictions.top_logits, temperature)[:, -1] / total, 0, 1)


def draw_beyond(logits: Floats, temperature: float, u: float, total: float, top_ids: Ids) -> int:
    """Return the token that `u` picks in one row when it lies beyond the row's candidates.

    Args:
        logits: Penalised, [vocab]; -inf for an id that is suppressed.
        temperature: Of the distribution.
        u: The row's uniform.
        total: The sum of exp((logit - best) / temperature) over the vocabulary.
        top_ids: The candidates [k], which the walk has already passed.

    Returns:
        The token at which the walk, continued in ascending order of id, passes u times the total; the last one if
        rounding overshoots.
    """
    weights = np.exp((logits.astype(np.float64) - logits[top_ids[0]]) / temperature)
    passed = np.cumsum(weights[top_ids])[-1]
    possible = top_ids[weights[top_ids] > 0]  # suppressed ids can be among the candidates
    weights[top_ids] = 0
    others = np.flatnonzero(weights)
    if not others.size:
        return int(possible[-1])
    place = np.searchsorted(passed + np.cumsum(weights[others]), u * total, side="right")
    return int(others[min(int(place), others.size - 1)])


def _cumulative(top_logits: Floats, temperature: float) -> NDArray[np.float64]:
    best_first = top_logits.astype(np.float64)
    return np.cumsum(np.exp((best_first - best_first[:, :1]) / temperature), axis=1)


def known_logits(predictions: Predictions, tokens: Ids, otherwise: Floats) -> Floats:
    """Return the logits [n, t] of `tokens` [n, t], taken from each row's candidates where it is among them.

    A target's own logit is summed in another order, so its last bits can differ from those of the sums and of the best.

    Args:
        predictions: Of the rows.
        tokens: Different ones in each row.
        otherwise: [n, t], the logits of those that are not among the candidates; -inf for those that are suppressed.
    """
    logits = np.minimum(otherwise, predictions.top_logits[:, -1:])
    row, place, target = np.nonzero(predictions.top_ids[:, :, None] == tokens[:, None, :])
    known = np.where(np.isneginf(otherwise[row, target]), -np.inf, predictions.top_logits[row, place])
    logits[row, target] = known
    return logits


def logprobs(logits: Floats, best: Floats, rest: Floats) -> NDArray[np.float64]:
    """Return the logarithms of probabilities at temperature 1, of one token a row or several.

    Args:
        logits: [n] or [n, t].
        best: [n], the logit of each row's best token.
        rest: [n], `Predictions.rest`.
    """
    shape = (-1,) + (1,) * (logits.ndim - 1)
    others = logits.astype(np.float64) - best.reshape(shape)
    normalised: NDArray[np.float64] = others - np.log1p(rest.astype(np.float64)).reshape(shape)
    return normalised


def odds_against(chosen: Floats, best: Floats, rest: Floats) -> NDArray[np.float64]:
    """Return the odds [n] against the chosen tokens, from their logits, the best ones and `Predictions.rest`.

    Commits are ordered by the odds, lowest first, because confidences of 1 - 1e-9 and 1 - 1e-8 are both 1 in float32
    while these odds are 1e-9 and 1e-8. At a high temperature a token can be so unlikely that they are infinite.
    """
    likelihood = np.exp(chosen.astype(np.float64) - best)
    with np.errstate(divide="ignore", over="ignore"):
        odds: NDArray[np.float64] = (rest + (1 - likelihood)) / likelihood
    return odds


def confidence(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities [n] whose odds against are `odds`, for people to read."""
    return 1 / (1 + odds)
