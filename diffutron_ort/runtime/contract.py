"""What a pass is given and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats, Ids

KVCache: TypeAlias = object
"""Keys and values that a pass computed for one sequence: a handle that only the model which returned it can read."""


@dataclass(frozen=True)
class Past:
    """The tokens that a pass attends to without computing them.

    Attributes:
        position_ids: int64 [batch, past], their places in the canvas; -1 is none.
        caches: For each sequence, what an earlier pass of the same `Forward` returned for it. Its first keys and values
            are those of the places 0, 1, … of its canvas.
    """

    position_ids: Ids
    caches: Sequence[KVCache]


@dataclass(frozen=True)
class PassInput:
    """The inputs of one pass, named as in the denoiser's graph.

    Attributes:
        input_ids: int64 [batch, seq], the tokens to compute; shorter sequences are padded on the right.
        position_ids: int64 [batch, seq], their places in the canvas; -1 is padding.
        rows: int64 [n], flat indices into batch x seq of the positions to predict, ascending.
        seen_ids: int64 [batch, u], the ids under repetition penalty, padded by repeating one.
        repetition_penalty: float32 [batch].
        temperature: float32 [batch].
        past: The other tokens; None where all are computed.
        return_kv: Whether `Predictions.kv_caches` is wanted.
    """

    input_ids: Ids
    position_ids: Ids
    rows: Ids
    seen_ids: Ids
    repetition_penalty: NDArray[np.float32]
    temperature: NDArray[np.float32]
    past: Past | None = None
    return_kv: bool = False


@dataclass(frozen=True)
class Predictions:
    """What a pass predicts for its rows, after the repetition penalty.

    Attributes:
        top_ids: int64 [n, k], the best tokens, best first, the lower id first among equals.
        top_logits: float32 [n, k], their logits.
        rest: float [n], the sum of exp(logit - best) over all tokens but the best.
        rest_tempered: float [n], the sum of exp((logit - best) / temperature) over all tokens but the best.
        entropy: float [n], in nats.
        logits: float32 [n, vocab] before the penalty, -inf for a token that the graph cannot predict; None unless
            they were asked for.
        kv_caches: One for each sequence of the pass; None unless they were asked for.
    """

    top_ids: Ids
    top_logits: Floats
    rest: Floats
    rest_tempered: Floats
    entropy: Floats
    logits: Floats | None = None
    kv_caches: Sequence[KVCache] | None = None


class Forward(Protocol):
    """A model, as the sampler calls it."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence's predictions are the same whatever else is in the pass.

        If they are not, the engine gives the sequence a pass of its own, unpadded.
        """

    def __call__(self, given: PassInput, /, *, logits: bool = False) -> Predictions:
        """Return the predictions of `given.rows`; with `logits`, the raw ones of the whole vocabulary too.

        A model that runs without a cache can ignore `given.past` and `given.return_kv`.
        """
        ...
