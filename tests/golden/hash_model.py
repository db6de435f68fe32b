"""A stand-in for the network that is exact in integers, so that a sampler can be checked with no network at all."""

import numpy as np

from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort.types import Floats
from tests.passes import predicted

NEIGHBOURS = np.array([0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646C], np.uint32)
GOLDEN = np.uint32(0x9E3779B1)


class HashModel:
    """The forward of `tests/golden/README.md`: each position's logits are a hash of five neighbouring tokens."""

    def __init__(self, vocab_size: int, salt: int) -> None:
        self.vocab = np.arange(vocab_size, dtype=np.uint32)
        self.salt = np.uint32(salt)
        self.batch_invariant = True

    def __call__(self, batch: PassInput) -> Predictions:
        return predicted(self.logits(batch), batch)

    def logits(self, batch: PassInput) -> Floats:
        """Return the raw logits of the batch's rows, float32 [n, vocab]."""
        tokens = np.where(batch.position_ids < 0, 0, batch.input_ids + 1).astype(np.uint32)
        padded = np.pad(tokens, ((0, 0), (2, 2)))
        length = tokens.shape[1]
        context = sum(padded[:, d : d + length] * NEIGHBOURS[d] for d in range(5))
        context = context + np.arange(length, dtype=np.uint32) * GOLDEN + self.salt
        h = context.reshape(-1)[batch.rows][:, None] + self.vocab * GOLDEN
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
        return (12 * (h / 2.0**32 - 0.5)).astype(np.float32)
