"""The loop: canvases in, a `Step` for everything that is committed out. It knows ids and a callable, nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffutron_ort import sampling
from diffutron_ort.canvas import Canvas, SpecialIds, block_count
from diffutron_ort.config import GenerationConfig
from diffutron_ort.predict import Forward, Guess, Predictor
from diffutron_ort.sampling import Ids, Stream
from diffutron_ort.schedule import commit_counts, drawn_counts


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
    text: str = ""


@dataclass(eq=False)
class _Row:
    """A sequence in the loop."""

    index: int
    first: Canvas
    canvas: Canvas
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
    this.)

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
    rows = [_Row(index, canvas, canvas) for index, canvas in enumerate(canvases)]
    blocks = block_count(canvases, config.block_length)
    steps = -(-config.steps // blocks)
    for block in range(blocks):
        counts = {row.index: _counts(row.canvas, block, steps, config, special.mask) for row in rows}
        for step in range(max(map(len, counts.values()))):
            active = [row for row in rows if not row.ended and step < len(counts[row.index])]
            if not active:
                break
            guesses = predict([row.canvas for row in active], [row.first for row in active], block, step)
            for row, guess in zip(active, guesses, strict=True):
                order = _commit_order(guess, row.canvas.seed, block, step, config.remasking)
                yield _commit(row, guess, order[: counts[row.index][step]], block, special.mask)
                row.ended = has_ended(row.canvas)


def _counts(canvas: Canvas, block: int, steps: int, config: GenerationConfig, mask: int) -> list[int]:
    """Return how many tokens each step of `block` commits."""
    start, end = canvas.block(block, config.block_length)
    masks = int((canvas.ids[start:end] == mask).sum())
    if config.stochastic_transfer:
        return drawn_counts(masks, steps, config.schedule, seed=canvas.seed, block=block)
    return commit_counts(masks, steps, config.schedule)


def _commit_order(guess: Guess, seed: int, block: int, step: int, remasking: str) -> NDArray[np.intp]:
    """Return in which order [n] the candidates are committed: ties go to the lowest position."""
    doubts = guess.doubts
    if remasking == "random":
        doubts = -sampling.uniform(seed, Stream.REMASKING, block, step, guess.positions)
    return np.argsort(doubts, kind="stable")


def _commit(row: _Row, guess: Guess, order: NDArray[np.intp], block: int, mask: int) -> Step:
    """Put what `order` [m] picks of a guess onto the row's canvas, and say so."""
    positions = guess.positions[order]
    row.canvas = row.canvas.commit(positions, guess.tokens[order])
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
    )
