"""What a pass is given and what it returns."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats, Ids


@dataclass(frozen=True)
class Past:
    """What a pass knows of the tokens that it does not compute.

    Attributes:
        position_ids: int64 [batch, past]; -1 is none.
        kept: `Predictions.kept` of an earlier pass of the same `Forward`, with as many places.
    """

    position_ids: Ids
    kept: object


@dataclass(frozen=True)
class Batch:
    """The inputs of one pass, named as in the denoiser's graph.

    Attributes:
        input_ids: int64 [batch, seq], the tokens to compute; shorter sequences are padded on the right.
        position_ids: int64 [batch, seq], their places in the canvas; -1 is padding.
        rows: int64 [n], flat indices into batch x seq, ascending.
        seen_ids: int64 [batch, u], the ids under repetition penalty, padded by repeating one.
        repetition_penalty: float32 [batch].
        temperature: float32 [batch].
        past: The other tokens; None where all are computed.
        keep: Whether `Predictions.kept` is wanted.
    """

    input_ids: Ids
    position_ids: Ids
    rows: Ids
    seen_ids: Ids
    repetition_penalty: NDArray[np.float32]
    temperature: NDArray[np.float32]
    past: Past | None = None
    keep: bool = False


@dataclass(frozen=True)
class Predictions:
    """What a pass says of its rows, after the repetition penalty.

    Attributes:
        top_ids: int64 [n, k], the best tokens, best first, the lower id first among equals.
        top_logits: float32 [n, k], their logits.
        rest: float [n], the sum of exp(logit - best) over all tokens but the best.
        rest_tempered: float [n], the sum of exp((logit - best) / temperature) over all tokens but the best.
        entropy: float [n], in nats.
        logits: float32 [n, vocab] before the penalty, -inf for a piece that the graph cannot predict; None where they
            were not asked for.
        kept: Handle of the pass's keys and values, or None where they were not asked for.
    """

    top_ids: Ids
    top_logits: Floats
    rest: Floats
    rest_tempered: Floats
    entropy: Floats
    logits: Floats | None = None
    kept: object = None


class Forward(Protocol):
    """What the loop asks of a model."""

    def __call__(self, batch: Batch, *, logits: bool = False) -> Predictions:
        """Return the predictions of `batch.rows`; with `logits`, the raw ones of the whole vocabulary too.

        `batch.past` and `batch.keep` need only be known to a model that runs with a cache.
        """
        ...
