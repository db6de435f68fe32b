"""What an output vocabulary loses of a model's predictions."""

from typing import Any

import numpy as np

from diffutron_ort.types import Floats, Ids


def coverage(kept: Ids, logits: Floats, texts: Ids) -> dict[str, Any]:
    """Return the figures of an output vocabulary for the fidelity card.

    Args:
        kept: int64 [m], the ids that can be predicted.
        logits: float32 [n, vocab], of the whole vocabulary.
        texts: int64 [t], the ids of texts in the model's language, one after another.

    Returns:
        `pieces` of `of` ids are kept; `text` is the share of the texts' tokens that are kept, `best` the share of rows
        whose best token is kept, and `mass_outside` the mean probability of the ids that are not.
    """
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return {
        "pieces": len(kept),
        "of": logits.shape[1],
        "text": float(np.isin(texts, kept).mean()),
        "best": float(np.isin(logits.argmax(axis=1), kept).mean()),
        "mass_outside": float(1 - probabilities[:, kept].sum(axis=1).mean()),
    }
