"""The result of a choice among given answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.brief import brief
from diffutron_ort.choosing.question import Question
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.scoring.score import Score
from diffutron_ort.scoring.work import Work

NORMALISATIONS = ("none", "tokens", "bytes")


@dataclass(frozen=True, eq=False)
class Choice:
    """How likely each of the given answers is, where one of them is the answer.

    Attributes:
        options: The answers, as they were given.
        probabilities: float64 [n], of each; they sum to 1.
        scores: The likelihood of each as an answer to the question, its options listed as they were given.
        by_order: float64 [orders, n], the probabilities of the options for each order in which they were listed.
        passes: Passes of the model that the scores took, each score counted by itself.
    """

    options: tuple[str, ...]
    probabilities: NDArray[np.float64]
    scores: tuple[Score, ...] = field(repr=False)
    by_order: NDArray[np.float64] = field(repr=False)
    passes: int

    @property
    def index(self) -> int:
        """The index of the most likely option, the first of equals."""
        return int(self.probabilities.argmax())

    @property
    def best(self) -> str:
        """The most likely option."""
        return self.options[self.index]

    @property
    def confidence(self) -> float:
        """How far the largest of n probabilities is on its way from 1 / n, where it is 0, to 1; 1 for one option."""
        count = len(self.options)
        return float((count * self.probabilities.max() - 1) / (count - 1)) if count > 1 else 1.0

    def __str__(self) -> str:
        """Return the most likely option."""
        return self.best


def chosen(question: Question, scoring: Work[list[Score]], normalise: str) -> Work[Choice]:
    """Return the choice that scores make.

    Args:
        question: What was asked.
        scoring: Scores each option after the first of the question's prompts, then each after the next.
        normalise: A key of `NORMALISATIONS`: what each log-likelihood is divided by.

    Raises:
        InputError: The model can write none of the options.
    """
    scores = yield from scoring
    return choice(question, scores, normalise)


def check_normalise(normalise: object) -> None:
    """Raise OptionError unless it is one of `NORMALISATIONS`."""
    if normalise not in NORMALISATIONS:
        raise OptionError(f"normalise={brief(normalise)}: must be one of {', '.join(NORMALISATIONS)}")


def choice(question: Question, scores: Sequence[Score], normalise: str) -> Choice:
    """Return the choice that the scores [orders * n] make; arguments and errors are those of `chosen`."""
    values = np.array([score.logprob / _size(score, normalise) for score in scores])
    by_order = _log_softmax(values.reshape(len(question.orders), -1))
    probabilities = np.exp(_log_softmax(by_order.mean(axis=0)))
    own = tuple(scores[: len(question.options)])
    return Choice(question.options, probabilities, own, np.exp(by_order), sum(score.passes for score in scores))


def _size(score: Score, normalise: str) -> int:
    return {"none": 1, "tokens": score.tokens, "bytes": score.bytes}[normalise]


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms [..., n] of probabilities from log-likelihoods [..., n].

    Raises:
        InputError: All of a row are -inf.
    """
    best = values.max(axis=-1, keepdims=True)
    if not np.isfinite(best).all():
        raise InputError("the model can write none of the options: its output vocabulary or suppress_tokens rule them out")
    shifted = values - best
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
