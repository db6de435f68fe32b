"""A text with masks: taken apart before they are filled, and put together again after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from diffutron_ort.types import Ids


class Decoder(Protocol):
    """Ids to text."""

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, control tokens left out."""


@dataclass(frozen=True)
class Draft:
    """A text that is to be filled.

    Attributes:
        ids: Its tokens, masks included.
        pieces: Its text before, between and after the masks: one more than there are masks.
    """

    ids: Sequence[int]
    pieces: Sequence[str]

    @property
    def masks(self) -> int:
        """Return the number of masks."""
        return len(self.pieces) - 1

    def spliced(self, decoder: Decoder, ids: Ids, positions: Ids) -> str:
        """Return the text with the text of one token in place of each mask.

        Neighbouring masks are decoded together, since a letter can be spread over several byte tokens. Words that come
        after white space, or at the start, need none of their own.

        Args:
            decoder: Ids to text.
            ids: The tokens with the masks filled in, int64 [length].
            positions: Where the masks were, ascending, int64 [n].
        """
        text, first = self.pieces[0], 0
        for i, piece in enumerate(self.pieces[1:], 1):
            if piece or i == len(positions):
                run = positions[first:i]
                previous = ids[run[0] - 1].item() if run[0] else None
                filled = decoder.decode(ids[run].tolist(), previous)
                text += (filled.removeprefix(" ") if not text or text[-1].isspace() else filled) + piece
                first = i
        return text
