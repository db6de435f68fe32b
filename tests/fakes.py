"""Models that say what a test wants them to."""

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.sampling import reduce_logits

MASK = 4


class Says:
    """A model that predicts one fixed token a position, a mask less surely than anything else."""

    def __init__(self, *tokens, vocab=64):
        self.tokens, self.vocab = tokens, vocab
        self.passes = 0

    def __call__(self, batch, *, logits=False):
        self.passes += 1
        raw = np.zeros((len(batch.rows), self.vocab), np.float32)
        place = batch.rows % batch.input_ids.shape[1]
        tokens = np.array([self.tokens[p] for p in place])
        raw[np.arange(len(place)), tokens] = np.where(tokens == MASK, 10, 20)
        reduced = reduce_logits(raw, float(batch.temperature[0]))
        return type(reduced)(**{**vars(reduced), "logits": raw if logits else None})


def scripted(model, text):
    """Return a model that answers "x" with the tokens of `text`, and what it runs on."""
    prompt = model._canvas("x", True, model.config())
    answer = model.tokenizer.encode(f"[Answer]\n{text}")[2:]
    filler = [0] * (prompt.length - prompt.start - len(answer))
    says = Says(*[9] * prompt.start, *answer, *filler, vocab=model.bundle.vocab_size)
    return Diffutron(model.bundle, model.tokenizer, says), says
