"""Fill the masks in a text: the text around them is kept as it was given."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffutron_ort.text.stopping import Decoder
from diffutron_ort.types import Ids


@dataclass(frozen=True)
class Draft:
    """A text with masks to fill.

    Attributes:
        ids: Its tokens, with the masks.
        pieces: The text before, between and after the masks, one more piece than there are masks.
    """

    ids: Sequence[int]
    pieces: Sequence[str]

    @property
    def masks(self) -> int:
        """The number of masks."""
        return len(self.pieces) - 1

    def spliced(self, decoder: Decoder, ids: Ids, positions: Ids) -> str:
        """Return the text with each mask replaced by the text of its token.

        Adjacent masks are decoded together, since a character may consist of several byte tokens. A leading space is
        dropped at the start of the text and after white space.

        Args:
            decoder: Decodes the tokens.
            ids: The tokens with the masks filled in, int64 [length].
            positions: The positions of the masks, ascending, int64 [n].
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
