"""Models whose every logit can be asked for, a position at a time."""

from functools import cache

import numpy as np

from diffutron_ort.types import SpecialIds
from tests.golden.hash_model import HashModel
from tests.passes import pass_input

VOCAB = 7
SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)


def row_of(forward, vocab_size):
    """Return the raw logits of a model as a function of a canvas and a position: all of them, in Python's floats."""

    @cache
    def asked(canvas, at):
        ids = np.array(canvas)[None]
        targets = np.arange(vocab_size)[None]
        found = forward(pass_input(ids, np.arange(len(canvas))[None], np.array([at]), target_ids=targets))
        return [float(value) for value in found.target_logits[0]]

    return lambda canvas, at: asked(tuple(canvas), at)


def hashed(salt):
    """Return a model of seven tokens, and its rows."""
    forward = HashModel(VOCAB, salt)
    return forward, row_of(forward, VOCAB)
