"""The loop: canvases in, a `Step` for everything that is committed out. It knows ids and a callable, nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler import random, sampling
from diffutron_ort.sampler.cache import Passes, View
from diffutron_ort.sampler.canvas import Canvas, block_count
from diffutron_ort.sampler.predict import Guess, Predictor
from diffutron_ort.sampler.random import Stream
from diffutron_ort.sampler.schedule import commit_counts, drawn_counts, sure_count
from diffutron_ort.types import Ids, SpecialIds


@dataclass(frozen=True, eq=False)
class Step:
    """What one denoising step did to one sequence.

    Attributes:
        row: Which of the sequences.
        index: Number of this step in its sequence, from 0.
        block: Number of the active block, from 0.
        positions: int64 [m], the committed positions, the most certain first.
        confidence: float64 [m], the probability that the model gave to each committed token.
        ids: int64 [length], the canvas after the step.
        start: Where its generated span begins.
        masks_left: Masks in that canvas.
        computed: How many of its tokens the step's pass computed: all of them, but for a cached pass. (Under guidance
            there are two such passes.)
        asked: How many of those it predicted.
        text: The text so far, without what is still masked.
    """

    row: int
    index: int
    block: int
    positions: Ids
    confidence: NDArray[np.float64]
    ids: Ids
    start: int
    masks_left: int
    computed: int
    asked: int
    text: str = ""


@dataclass(eq=False)
class _Row:
    """A sequence in the loop."""

    index: int
    canvas: Canvas
    passes: Passes
    counts: Sequence[int] = ()  # of the active block: how many tokens each step commits at least
    steps: int = 0
    ended: bool = False


def denoise(
    forward: Forward,
    canvases: Sequence[Canvas],
    config: GenerationConfig,
    special: SpecialIds,
    has_ended: Callable[[Canvas], bool] = lambda _: False,
) -> Iterator[Step]:
    """Yield the steps that take `canvases` from masks to text, block by block from left to right.

    Sequences that run together share passes, and nothing else: each takes the steps that it takes alone. (Only when
    infilling texts of several lengths in several blocks, the reference shares the steps by the longest, and so does
    this.) With a cache, they run one after the other.

    Args:
        forward: The model.
        canvases: At least one.
        config: The options; `max_new_tokens`, `stop`, `seed` and `early_end` have done their part before this loop.
        special: The control tokens.
        has_ended: Whether what is shown of a canvas is settled, so that its sequence can leave.

    Raises:
        NumericsError: The model returned something that is not finite.
    """
    predict = Predictor(forward, config, special)
    numbered = list(enumerate(canvases))
    for group in [[one] for one in numbered] if config.cache == "block" else [numbered]:
        rows = [_Row(index, canvas, Passes(canvas, config, special.mask)) for index, canvas in group]
        yield from _denoise_together(predict, rows, config, special.mask, has_ended)


def _denoise_together(
    predict: Predictor,
    rows: Sequence[_Row],
    config: GenerationConfig,
    mask: int,
    has_ended: Callable[[Canvas], bool],
) -> Iterator[Step]:
    """Yield the steps of `rows`, which share passes."""
    blocks = block_count([row.canvas for row in rows], config.block_length)
    steps = -(-config.steps // blocks)
    for block in range(blocks):
        for row in rows:
            row.counts = _counts(row.canvas, block, steps, config, mask)
        for step in range(max(len(row.counts) for row in rows)):
            active = [row for row in rows if _goes_on(row, block, step, config, mask)]
            if not active:
                break
            yield from _take_step(predict, active, block, step, config, mask)
            for row in active:
                row.ended = has_ended(row.canvas)


def _counts(canvas: Canvas, block: int, steps: int, config: GenerationConfig, mask: int) -> list[int]:
    """Return how many tokens each step of `block` commits at least."""
    start, end = canvas.block(block, config.block_length)
    masks = int((canvas.ids[start:end] == mask).sum())
    if config.stochastic_transfer:
        return drawn_counts(masks, steps, config.schedule, seed=canvas.seed, block=block)
    return commit_counts(masks, steps, config.schedule)


def _goes_on(row: _Row, block: int, step: int, config: GenerationConfig, mask: int) -> bool:
    """Return whether there is a `step` for this row: one on the schedule, and something to commit in it."""
    on_schedule = not row.ended and step < len(row.counts)
    return on_schedule and row.canvas.candidates(row.canvas.block(block, config.block_length), mask).size > 0


def _take_step(
    predict: Predictor, rows: Sequence[_Row], block: int, step: int, config: GenerationConfig, mask: int
) -> list[Step]:
    """Run a pass and commit what is surest; nothing of the pass outlives it but what `Passes` holds."""
    views = [row.passes.view(row.canvas, block) for row in rows]
    taken = []
    for row, view, guess in zip(rows, views, predict(views, block, step), strict=True):
        order = _commit_order(guess, row.canvas.seed, block, step, config.remasking)
        sure = sure_count(guess.doubts[order], guess.entropies[order], config)
        taken.append(_commit(row, view, guess, order[: max(row.counts[step], sure)], block, mask))
    return taken


def _commit_order(guess: Guess, seed: int, block: int, step: int, remasking: str) -> NDArray[np.intp]:
    """Return in which order [n] the candidates are committed: ties go to the lowest position."""
    doubts = guess.doubts
    if remasking == "random":
        doubts = -random.uniform(seed, Stream.REMASKING, block, step, guess.positions)
    return np.argsort(doubts, kind="stable")


def _commit(row: _Row, view: View, guess: Guess, order: NDArray[np.intp], block: int, mask: int) -> Step:
    """Put what `order` [m] picks of a guess onto the row's canvas, and say so."""
    positions = guess.positions[order]
    row.canvas = row.canvas.commit(positions, guess.tokens[order])
    row.passes.committed(guess.kept, guess.entropies[order])
    row.steps += 1
    return Step(
        row=row.index,
        index=row.steps - 1,
        block=block,
        positions=positions,
        confidence=sampling.confidence(guess.doubts[order]),
        ids=row.canvas.ids,
        start=row.canvas.start,
        masks_left=int((row.canvas.ids == mask).sum()),
        computed=len(view.computed),
        asked=len(guess.positions),
    )
