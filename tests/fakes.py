"""Models that say what a test wants them to."""

from dataclasses import replace
from weakref import WeakSet

import numpy as np

from diffutron_ort import Diffutron
from tests.passes import predicted

MASK = 4


def invariant(forward):
    """Return a function as a model in which sequences can share a pass."""
    forward.batch_invariant = True
    return forward


class Ending:
    """A reader that knows when a canvas has ended, and no text."""

    def __init__(self, ends):
        self.ends = ends

    def is_settled(self, ids, start):
        return self.ends.has_ended(ids[start:])


class Says:
    """A model that predicts one fixed token a position, a mask less surely than anything else."""

    batch_invariant = True

    def __init__(self, *tokens, vocab=64):
        self.tokens, self.vocab = tokens, vocab
        self.passes = 0

    def __call__(self, batch):
        self.passes += 1
        raw = np.zeros((len(batch.rows), self.vocab), np.float32)
        place = batch.rows % batch.input_ids.shape[1]
        tokens = np.array([self.tokens[p] for p in place])
        raw[np.arange(len(place)), tokens] = np.where(tokens == MASK, 10, 20)
        return predicted(raw, batch, penalised=False)


class Remembered:
    """A cache that has, instead of keys and values, the tokens [length] of a sequence."""

    def __init__(self, ids):
        self.ids = ids


class Caching:
    """A model with a cache: it sees the tokens that a pass does not compute as they were in the pass that it is of."""

    batch_invariant = True

    def __init__(self, model):
        self.model, self.batches, self.alive = model, [], WeakSet()

    def __call__(self, batch):
        self.batches.append(batch)
        whole = batch if batch.past is None else self._completed(batch)
        said = self.model(replace(whole, past=None, return_kv=False))
        if not batch.return_kv:
            return said
        lengths = (whole.position_ids >= 0).sum(axis=1)
        caches = [Remembered(ids[:length]) for ids, length in zip(whole.input_ids, lengths, strict=True)]
        self.alive.update(caches)
        return replace(said, kv_caches=caches)

    def _completed(self, batch):
        """Return the pass that computes every token, those of the past as they were."""
        seq, whole = batch.input_ids.shape[1], [self._joined(batch, i) for i in range(len(batch.input_ids))]
        longest = max(map(len, whole))
        ids, positions = np.zeros((2, len(whole), longest), np.int64) - 1
        for i, row in enumerate(whole):
            ids[i, : len(row)], positions[i, : len(row)] = row, np.arange(len(row))
        places = batch.position_ids.reshape(-1)[batch.rows]
        return replace(batch, input_ids=ids, position_ids=positions, rows=batch.rows // seq * longest + places)

    def _joined(self, batch, i):
        places, computed = batch.past.position_ids[i], batch.position_ids[i]
        own = computed >= 0
        known = np.flatnonzero(places >= 0)
        length = len(known) + int(own.sum())
        assert sorted([*places[known], *computed[own]]) == list(range(length))  # each place once
        ids = np.empty(length, np.int64)
        ids[places[known]], ids[computed[own]] = batch.past.caches[i].ids[known], batch.input_ids[i][own]
        return ids


def scripted(model, text):
    """Return a model that answers "x" with the tokens of `text`, and what it runs on."""
    prompt = model._prompts.canvas("x", True, model.config())
    answer = model.tokenizer.encode(f"[Answer]\n{text}")[2:]
    filler = [0] * (prompt.length - prompt.start - len(answer))
    says = Says(*[9] * prompt.start, *answer, *filler, vocab=model.bundle.vocab_size)
    return Diffutron(model.bundle, model.tokenizer, says), says
