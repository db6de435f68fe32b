"""The result of a document."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import DiffutronError
from diffutron_ort.scoring.score import Score


@dataclass(frozen=True)
class Result:
    """The result of a document: its score, or why it has none.

    A model with an output vocabulary cannot write some tokens at all. One of them makes a whole text impossible, so
    these are counted, and all other figures here are of the other tokens.

    Attributes:
        name: Of the document.
        score: Its score; None if it has no text, or failed.
        error: Why the document failed; None if it did not.
    """

    name: str
    score: Score | None = None
    error: DiffutronError | None = None

    @property
    def possible(self) -> NDArray[np.bool_]:
        """Which of the score's tokens the model can write, bool [n]."""
        return np.zeros(0, np.bool_) if self.score is None else np.isfinite(self.score.logprobs)

    @property
    def tokens(self) -> int:
        """Number of the tokens that the model can write."""
        return int(self.possible.sum())

    @property
    def impossible_tokens(self) -> int:
        """Number of the tokens that it cannot write."""
        return len(self.possible) - self.tokens

    @property
    def logprob(self) -> float:
        """The logarithm of the likelihood, in nats."""
        return 0.0 if self.score is None else float(self.score.logprobs[self.possible].sum())

    @property
    def standard_error(self) -> float | None:
        """Of `logprob`, from the masks that were drawn; None where nothing is drawn, or a token is impossible."""
        return None if self.score is None or self.impossible_tokens else self.score.standard_error
