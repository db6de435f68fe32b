"""What is scored: the tokens of a context and of a text, and the windows through which the model sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Ids


@dataclass(frozen=True, eq=False)
class Passage:
    """A text after its context.

    Attributes:
        ids: int64 [length], the tokens of both.
        start: Where those of the text begin.
        words: int64 [length], a number for the word that each token belongs to.
        bytes: Length of the text in UTF-8; 0 where that is unknown.
        joined: Whether the text's first token also holds the end of the context.
        seed: Of the masks that are drawn for it.
    """

    ids: Ids
    start: int
    words: Ids
    bytes: int = 0
    joined: bool = False
    seed: int = 0


class Window(NamedTuple):
    """A stretch of a passage that the model sees at once, and scores the end of.

    Attributes:
        begin: Its first position in the passage.
        first: The first position that it scores; those before it are context.
        end: The position after its last.
    """

    begin: int
    first: int
    end: int


def split(context: Sequence[int], whole: Sequence[int]) -> tuple[int, bool]:
    """Return where a text begins in the tokens of context and text, and whether its first token holds some of both.

    Args:
        context: The tokens of the context alone.
        whole: The tokens of the two texts together. The tokenizer may join the end of one with the beginning of the
            other; the token that it makes of them belongs to the text.
    """
    differ = (i for i, (a, b) in enumerate(zip(context, whole, strict=False)) if a != b)
    start = next(differ, min(len(context), len(whole)))
    return start, start < len(context)


def windows(length: int, start: int, most: int, stride: int) -> Iterator[Window]:
    """Yield the windows that together score each position from `start` up to `length` once.

    The first sees as much of the context as it can. If the rest does not fit, each window after it scores `stride` more
    positions at most, and sees those before them. A context that leaves no room loses its beginning.

    Args:
        length: Number of tokens.
        start: The first one to score.
        most: The most tokens of a window.
        stride: The most that a later window scores, at most `most`.
    """
    first, room = start, most - min(start, most - stride)
    while first < length:
        end = min(first + room, length)
        yield Window(max(0, end - most), first, end)
        first, room = end, stride


class Stretch(NamedTuple):
    """A window's tokens, as a method gets them.

    Attributes:
        ids: int64 [length]; a mask among them stays one.
        start: Where its context ends.
        positions: int64 [n], those to score, ascending: all from `start` on that are not masks.
        words: int64 [length], a number for the word that each token belongs to.
        number: Of the window in its passage, from 0.
        seed: Of the masks that are drawn.
    """

    ids: Ids
    start: int
    positions: Ids
    words: Ids
    number: int
    seed: int

    def with_masks(self, positions: Ids, mask: int) -> Ids:
        """Return the tokens [length] with masks at some positions [m]."""
        canvas = self.ids.copy()
        canvas[positions] = mask
        return canvas


class Found(NamedTuple):
    """What a method found out about a stretch.

    Attributes:
        logprobs: float64 [n], the part of each position that it scores.
        variance: Of their sum; None if they are exact.
        passes: Passes of the model that it took part in.
    """

    logprobs: NDArray[np.float64]
    variance: float | None
    passes: int


def stretches(passage: Passage, mask: int, most: int, stride: int) -> list[Stretch]:
    """Return the windows of a passage with their tokens."""
    found = []
    for number, (begin, first, end) in enumerate(windows(len(passage.ids), passage.start, most, stride)):
        ids, start = passage.ids[begin:end], first - begin
        positions = start + np.flatnonzero(ids[start:] != mask)
        found.append(Stretch(ids, start, positions, passage.words[begin:end], number, passage.seed))
    return found
