"""Models that say what a test wants them to."""

from dataclasses import replace
from weakref import WeakSet

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.sampler.sampling import reduce_logits

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


class Remembered:
    """What a cache holds of a pass, for want of keys and values: its tokens [length]."""

    def __init__(self, ids):
        self.ids = ids


class Caching:
    """A model with a cache: it sees the tokens that a pass does not compute as they were in the one that kept them."""

    def __init__(self, model):
        self.model, self.batches, self.alive = model, [], WeakSet()

    def __call__(self, batch, *, logits=False):
        self.batches.append(batch)
        whole = batch if batch.past is None else self._completed(batch)
        said = self.model(replace(whole, past=None, keep=False), logits=logits)
        if not batch.keep:
            return said
        kept = Remembered(whole.input_ids[0])
        self.alive.add(kept)
        return replace(said, kept=kept)

    def _completed(self, batch):
        [places], [computed] = batch.past.position_ids, batch.position_ids
        known = np.flatnonzero(places >= 0)
        assert sorted([*places[known], *computed]) == list(range(len(places)))  # each place once
        ids = np.empty_like(places)
        ids[places[known]], ids[computed] = batch.past.kept.ids[known], batch.input_ids[0]
        positions = np.arange(len(ids))[None]
        return replace(batch, input_ids=ids[None], position_ids=positions, rows=computed[batch.rows])


def scripted(model, text):
    """Return a model that answers "x" with the tokens of `text`, and what it runs on."""
    prompt = model._canvas("x", True, model.config())
    answer = model.tokenizer.encode(f"[Answer]\n{text}")[2:]
    filler = [0] * (prompt.length - prompt.start - len(answer))
    says = Says(*[9] * prompt.start, *answer, *filler, vocab=model.bundle.vocab_size)
    return Diffutron(model.bundle, model.tokenizer, says), says
