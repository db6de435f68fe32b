"""How good choices are, and how far their probabilities can be trusted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from choices.exercises import Choosing
from diffutron_ort.choosing.choice import Choice

BINS = 10
Probabilities = NDArray[np.float64]  # [n, options]


class Figures(NamedTuple):
    """What choices are worth.

    Attributes:
        accuracy: The share of right ones.
        confidence: The mean of the largest probabilities.
        ece: The expected calibration error: the mean distance of the largest probability from the share of right
            choices, over `BINS` bins of equal width, each weighted by the choices in it (arXiv:1706.04599).
        nats: The mean of -log p of the right option.
    """

    accuracy: float
    confidence: float
    ece: float
    nats: float


def figures(probabilities: Probabilities, right: NDArray[np.intp]) -> Figures:
    """Return the figures of choices, given the index [n] of the right option of each."""
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == right
    nats = -np.log(probabilities[np.arange(len(right)), right])
    return Figures(float(is_right.mean()), float(confidence.mean()), ece(confidence, is_right), float(nats.mean()))


def ece(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of choices [n]."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - is_right[bins == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(confidence))


def normalised(choices: Sequence[Choice], by: str, pad: int) -> Probabilities:
    """Return the probabilities of choices that were made without normalisation, as they are with it."""
    logprobs = np.array([[score.logprob for score in choice.scores] for choice in choices])
    sizes = {
        "none": lambda _: 1,
        "tokens": lambda score: int((score.ids != pad).sum()),
        "bytes": lambda score: score.bytes,
    }
    values = logprobs / [[sizes[by](score) for score in choice.scores] for choice in choices]
    exponents: Probabilities = np.exp(values - values.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def rights(asked: Sequence[Choosing]) -> NDArray[np.intp]:
    """Return the index [n] of the right option of each exercise."""
    return np.array([one.right for one in asked])
