"""Models that fail in a certain way, and what loads them in another process."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.sampler.engine import Engine

QUICK = {"steps": 2, "max_new_tokens": 8, "temperature": 0.9}
WORD = "zzz"


class Watched:
    """A model's graph, watched: it remembers how many sequences each pass had, and may act on a prompt with `WORD`."""

    def __init__(self, model, act=None):
        self.forward, self.sizes, self.act = model.forward, [], act
        self.batch_invariant = model.forward.batch_invariant
        self.sign = model.tokenizer.encode(f"[Question]\n{WORD}")[-1]

    def __call__(self, batch):
        self.sizes.append(len(batch.input_ids))
        found = self.forward(batch)
        has_sign = (batch.input_ids == self.sign).any(axis=1)
        return self.act(batch, found, has_sign) if self.act and has_sign.any() else found


def watched(model, act=None):
    """Return a model whose graph is watched, and the graph."""
    graph = Watched(model, act)
    twin = Diffutron(model.bundle, model.tokenizer, graph)
    twin.engine = Engine(graph)
    return twin, graph


def not_a_number(batch, found, has_sign):
    """Return predictions that are not a number for the sequences with the sign."""
    rows = has_sign[batch.rows // batch.input_ids.shape[1]]
    return replace(found, top_logits=np.where(rows[:, None], np.float32(np.nan), found.top_logits))


def killed(batch, found, has_sign):
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def load_killed(folder: Path) -> Diffutron:
    """Load the embedded model; it kills its process at the sign, which it notes in a folder."""

    def act(batch, found, has_sign):
        (folder / f"{os.getpid()}").touch()
        killed(batch, found, has_sign)

    return watched(Diffutron.from_pretrained(threads=1), act)[0]


def load_killed_once(folder: Path) -> Diffutron:
    """Load the embedded model; the first process that sees the sign is killed."""

    def act(batch, found, has_sign):
        try:
            (folder / "killed").touch(exist_ok=False)
        except FileExistsError:
            return found
        return killed(batch, found, has_sign)

    return watched(Diffutron.from_pretrained(threads=1), act)[0]


def load_nothing() -> Diffutron:
    """Die while the model is loaded."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
