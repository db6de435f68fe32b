"""Which tokens make up a word."""

from collections.abc import Sequence

import numpy as np

from diffutron_ort.types import Ids


def word_numbers(pieces: Sequence[str]) -> Ids:
    """Return the number of the word that each token belongs to, from 0, int64 [n].

    A word begins at a piece with ▁, and where letters and digits follow something else or the other way round; a run of
    apostrophes or bytes of a letter does not end it.

    Args:
        pieces: The tokens' entries in the vocabulary.
    """
    kinds = [_is_wordlike(piece) for piece in pieces]
    begins = [
        i == 0 or piece.startswith("▁") or kinds[i] != kinds[i - 1] or not kinds[i] for i, piece in enumerate(pieces)
    ]
    return np.cumsum(begins, dtype=np.int64) - 1


def _is_wordlike(piece: str) -> bool:
    """Return whether a piece is a part of a word: letters, digits, apostrophes, or a byte of a letter."""
    return any(letter.isalnum() or letter in "'’" for letter in piece)
