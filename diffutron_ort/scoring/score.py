"""The result of a scoring: how likely a text is, token by token."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Ids


@dataclass(frozen=True, eq=False)
class Score:
    """The logarithm of a text's likelihood, in nats, and what it was worked out from.

    Attributes:
        method: `policy`, `elbo`, `pll` or `pll_word_l2r`.
        logprob: Of the whole text, in nats; -inf if the model cannot write it. Of `elbo`, an estimate of a lower bound.
        ids: int64 [n], the tokens that were scored.
        logprobs: float64 [n], the part of each token; their sum is `logprob`.
        bytes: Length of the text in UTF-8, without its context; 0 where ids were given whose text is unknown.
        joined: Whether the first token also holds the end of the context, since the tokenizer joins the two there.
        context_tokens: Tokens before the text that the model saw.
        context_cut: Tokens of the context that did not fit, and that the model did not see.
        standard_error: Of `logprob`, in nats; None for the methods that are exact.
        passes: Passes of the model.
    """

    method: str
    logprob: float
    ids: Ids = field(repr=False)
    logprobs: NDArray[np.float64] = field(repr=False)
    bytes: int
    joined: bool
    context_tokens: int
    context_cut: int
    standard_error: float | None
    passes: int

    @property
    def tokens(self) -> int:
        """Number of tokens that were scored."""
        return len(self.ids)

    @property
    def nats_per_token(self) -> float | None:
        """The mean of -log p over the tokens; None without any."""
        return -self.logprob / self.tokens if self.tokens else None

    @property
    def perplexity(self) -> float | None:
        """The exponential of `nats_per_token`, infinite if that is beyond floating point; None without any token."""
        nats = self.nats_per_token
        return None if nats is None else exponential(nats)

    @property
    def bits_per_byte(self) -> float | None:
        """-log2 p over the number of bytes; None where that is unknown or 0."""
        return -self.logprob / math.log(2) / self.bytes if self.bytes else None


def exponential(nats: float) -> float:
    """Return exp(nats), infinite where that is beyond floating point."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
