"""The result of a choice among given answers."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.scoring.score import Score


@dataclass(frozen=True, eq=False)
class Choice:
    """How likely each of the given answers is, where one of them is the answer.

    Attributes:
        options: The answers, as they were given.
        probabilities: float64 [n], of each; they sum to 1.
        scores: The likelihood of each as an answer to the question, its options listed as they were given. In the chat
            template, the `<pad>`s after the shorter ones are scored as well.
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
