"""The canvas: a sequence of tokens, some of which are masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from diffutron_ort.types import Ids


class Span(NamedTuple):
    """The positions from `start` up to, but without, `end`."""

    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Canvas:
    """One sequence on its way from masks to text. It never changes: a commit returns a new one.

    Attributes:
        ids: int64 [length], read-only.
        start: Where the first block, and the generated span, begins.
        seed: Of this sequence's uniforms.
        infill: Whether only masks inside the active block can be committed. Otherwise masks before it can be, too:
            those left over from earlier blocks, or written in the prompt.
        after: Number of given tokens that follow the generated span.
    """

    ids: Ids
    start: int
    seed: int = 0
    infill: bool = False
    after: int = 0

    def __post_init__(self) -> None:
        """Copy the ids if they can be written to, so that they never change."""
        if self.ids.flags.writeable:
            object.__setattr__(self, "ids", self.ids.copy())
            self.ids.flags.writeable = False

    @property
    def length(self) -> int:
        """Number of positions."""
        return len(self.ids)

    @property
    def end(self) -> int:
        """Where the generated span ends."""
        return self.length - self.after

    @property
    def generated(self) -> Ids:
        """The tokens of the generated span, int64 [end - start]."""
        return self.ids[self.start : self.end]

    def block_count(self, block_length: int) -> int:
        """Return the number of blocks in the generated span."""
        return -(-len(self.generated) // block_length)

    def block(self, index: int, block_length: int) -> Span:
        """Return the span of block `index`; it is empty beyond the end of the generated span."""
        start = self.start + index * block_length
        return Span(min(start, self.end), min(start + block_length, self.end))

    def candidates(self, block: Span, mask: int) -> Ids:
        """Return the positions [n] that can be committed while `block` is active, ascending."""
        first = block.start if self.infill else 0
        return first + np.flatnonzero(self.ids[first : block.end] == mask)

    def masks(self, mask: int) -> Ids:
        """Return the positions [n] of all masks, ascending."""
        return np.flatnonzero(self.ids == mask)

    def commit(self, positions: Ids, tokens: Ids) -> Self:
        """Return the canvas with `tokens` [m] at `positions` [m]."""
        ids = self.ids.copy()
        ids[positions] = tokens
        return replace(self, ids=ids)

    def reseeded(self, more: int) -> Self:
        """Return the same canvas with a larger seed."""
        return replace(self, seed=(self.seed + more) % 2**64)

    def unconditional(self, first: Self, mask: int, keep: Sequence[int]) -> Self:
        """Replace every token that was given in the `first` canvas with a mask, except the ids in `keep`."""
        given = (first.ids != mask) & ~np.isin(first.ids, keep)
        return replace(self, ids=np.where(given, mask, self.ids))


def for_generation(prompt_ids: Sequence[int], max_new_tokens: int, mask: int, seed: int = 0) -> Canvas:
    """Return the canvas of a prompt: its tokens, then `max_new_tokens` masks."""
    return between(prompt_ids, max_new_tokens, (), mask, seed)


def between(before: Sequence[int], new: int, after: Sequence[int], mask: int, seed: int = 0) -> Canvas:
    """Return the canvas of a text that has `new` masks between the tokens `before` and `after`."""
    ids = np.array([*before, *[mask] * new, *after], np.int64)
    return Canvas(ids, start=len(before), seed=seed, after=len(after))


def for_infilling(ids: Sequence[int], seed: int = 0) -> Canvas:
    """Return the canvas of a text that holds masks."""
    return Canvas(np.array(ids, np.int64), start=0, seed=seed, infill=True)
