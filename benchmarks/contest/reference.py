"""The reference's sampler as people write it, in numpy and in torch: the plain loop that the peers are measured with.

Written from the description of dllm's sampler: all logits of the canvas leave the model, the repetition penalty and
the Gumbel noise, in float64, go over every row, and so does the softmax, in the type of the logits. With `cut`, the
same arithmetic sees the rows of those masks alone that a step can commit; the model still computes all.

A step changes the canvas, int64 [length], in place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PAD, EOS, MASK = 0, 1, 4


@dataclass(frozen=True)
class Settings:
    """What the sampler is set to; the defaults are the preset `short`."""

    temperature: float = 0.1
    penalty: float = 1.2
    cut: bool = False


def generate(
    step: Callable[[Any, int, int], None], canvas: Any, start: int, block: int, counts: Callable[[int], Sequence[int]]
) -> None:
    """Take a canvas from masks to tokens, block by block; `counts` of a block's masks is what each step commits."""
    for first in range(start, len(canvas), block):
        end = min(first + block, len(canvas))
        for count in counts(int((canvas[first:end] == MASK).sum())):
            if not (canvas == MASK).any():
                return
            step(canvas, end, count)


class NumpySampler:
    """One step at a time, in numpy.

    Args:
        forward: int64 [length] -> float32 [length, vocab], which may be written to.
        settings: Of the sampler.
        uniform: Draws from [0, 1), float64, of the shape it is given.
    """

    def __init__(self, forward: Callable[[Any], Any], settings: Settings, uniform: Callable[[Any], Any] | None = None):
        self.forward, self.settings = forward, settings
        self.uniform = uniform or np.random.default_rng(0).random

    def __call__(self, canvas: Any, end: int, count: int) -> None:
        """Commit `count` masks of the canvas before position `end`."""
        masked = canvas == MASK
        can = masked & (np.arange(len(canvas)) < end)
        logits = self.forward(canvas)  # [length, vocab]
        rows = np.flatnonzero(can) if self.settings.cut else np.arange(len(canvas))
        logits = logits[rows] if self.settings.cut else logits
        self.penalise(logits, canvas)
        tokens, confidence = self.choose(logits)
        confidence = np.where(can[rows], confidence, -np.inf)
        best = np.argsort(-confidence, kind="stable")[: min(count, int(masked.sum()))]
        canvas[rows[best]] = tokens[best]

    def penalise(self, logits: Any, canvas: Any) -> None:
        """Penalise what the canvas holds, in place: positive logits [n, vocab] are divided, negative multiplied."""
        seen = np.setdiff1d(canvas, (MASK, EOS))
        own, penalty = logits[:, seen], np.float32(self.settings.penalty)
        logits[:, seen] = np.where(own > 0, own / penalty, own * penalty)

    def choose(self, logits: Any) -> tuple[Any, Any]:
        """Return a token [n] for each row of logits [n, vocab], which are overwritten, and its probability [n].

        Every large array is used again where it can be: fresh ones cost half as much again.
        """
        tokens = (self.noisy(logits) if self.settings.temperature else logits).argmax(axis=-1)
        logits -= logits.max(axis=-1, keepdims=True)
        p = np.exp(logits, out=logits)
        return tokens, np.take_along_axis(p, tokens[:, None], axis=-1)[:, 0] / p.sum(axis=-1)

    def noisy(self, logits: Any) -> Any:
        """Return exp(logits) / (-log u) ** temperature, float64 [n, vocab], the best of which is the drawn token."""
        noise = self.uniform(logits.shape)
        np.negative(np.log(noise, out=noise), out=noise)
        np.power(noise, self.settings.temperature, out=noise)
        wide = logits.astype(np.float64)
        return np.divide(np.exp(wide, out=wide), noise, out=wide)


class TorchSampler:
    """One step at a time, in torch, which spreads it over the processor's cores.

    Args:
        forward: int64 [length] -> [length, vocab] of any floating type, which may be written to.
        settings: Of the sampler.
    """

    def __init__(self, forward: Callable[[Any], Any], settings: Settings):
        import torch

        self.torch, self.forward, self.settings = torch, forward, settings

    def __call__(self, canvas: Any, end: int, count: int) -> None:
        """Commit `count` masks of the canvas before position `end`."""
        torch = self.torch
        masked = canvas == MASK
        can = masked & (torch.arange(len(canvas)) < end)
        logits = self.forward(canvas)  # [length, vocab]
        rows = can.nonzero()[:, 0] if self.settings.cut else torch.arange(len(canvas))
        logits = logits[rows] if self.settings.cut else logits
        self.penalise(logits, canvas)
        tokens, confidence = self.choose(logits)
        confidence = torch.where(can[rows], confidence, -torch.inf)
        best = confidence.topk(min(count, int(masked.sum()))).indices
        canvas[rows[best]] = tokens[best]

    def penalise(self, logits: Any, canvas: Any) -> None:
        """Penalise what the canvas holds, in place: positive logits [n, vocab] are divided, negative multiplied."""
        seen = canvas.unique()
        seen = seen[(seen != MASK) & (seen != EOS)]
        own = logits[:, seen]
        logits[:, seen] = self.torch.where(own > 0, own / self.settings.penalty, own * self.settings.penalty)

    def choose(self, logits: Any) -> tuple[Any, Any]:
        """Return a token [n] for each row of logits [n, vocab], and how probable it was [n]."""
        torch, noisy = self.torch, logits
        if self.settings.temperature:
            wide = logits.to(torch.float64)
            noisy = wide.exp() / (-torch.log(torch.rand_like(wide))) ** self.settings.temperature
        tokens = noisy.argmax(dim=-1)
        return tokens, logits.softmax(dim=-1).gather(-1, tokens[:, None])[:, 0]
