"""The output vocabulary: which pieces the head of an export keeps."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from diffutron_ort.errors import OptionError

from .tokenizer import Tokenizer

Ids = NDArray[np.int64]
Floats = NDArray[np.floating]

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "▁"


def read_pieces(path: str | Path, tokenizer: Tokenizer) -> Ids:
    """The ids that a head needs for the language of a text: int64 [m], ascending.

    They are all that occur in the text, line by line, and, whatever the text, all special and added tokens, all bytes,
    all pieces of digits and punctuation alone, and what the answer's end is written with.

    Args:
        path: a text file in UTF-8, or one that holds nothing but numbers (spaces, commas and brackets aside): ids.
        tokenizer: the source's.

    Raises:
        OptionError: the file cannot be read, is empty, or names an id that is not the tokenizer's.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"output vocabulary {path}: {error}; give a text file in UTF-8, or a list of ids") from error
    made = tokenizers.Tokenizer.from_str(tokenizer.files["tokenizer.json"].decode("utf-8"))
    numbers = re.split(r"[\s,\[\]]+", content.strip("[], \n\t\r"))
    if numbers == [""]:
        raise OptionError(f"output vocabulary {path} is empty; give a text in the language, or a list of ids")
    if all(number.isdecimal() for number in numbers):
        found = {int(number) for number in numbers}
    else:
        encoded = made.encode_batch_fast(content.splitlines(), add_special_tokens=False)
        found = {i for line in encoded for i in line.ids}
    if beyond := [i for i in found if i >= tokenizer.size]:
        raise OptionError(f"output vocabulary {path} names id {min(beyond)}; the tokenizer has {tokenizer.size} pieces")
    return np.array(sorted(found | always(made, tokenizer)), np.int64)


def always(made: tokenizers.Tokenizer, tokenizer: Tokenizer) -> set[int]:
    """The ids that every output vocabulary has."""
    plain = {i for piece, i in made.get_vocab().items() if BYTE.fullmatch(piece) or is_sign(piece.strip(SPACE))}
    return plain | {*made.get_added_tokens_decoder(), *tokenizer.special_ids.values(), *tokenizer.answer_end}


def is_sign(text: str) -> bool:
    """Whether a text is digits, punctuation, symbols or white space alone."""
    return all(unicodedata.category(character)[0] in "NPSZ" for character in text)


def coverage(pieces: Ids, logits: Floats, texts: Ids) -> dict[str, Any]:
    """What an output vocabulary loses.

    Args:
        pieces: the ids that are kept [m].
        logits: float32's, of all pieces [n, vocab].
        texts: the ids of texts in the model's language, one after another.

    Returns:
        pieces and of: how many are kept of how many; text: the share of the texts' tokens that is kept; best: the share
        of rows whose best token is; mass_outside: the mean probability of what is not.
    """
    chances = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    return {
        "pieces": len(pieces),
        "of": logits.shape[1],
        "text": float(np.isin(texts, pieces).mean()),
        "best": float(np.isin(logits.argmax(axis=1), pieces).mean()),
        "mass_outside": float(1 - chances[:, pieces].sum(axis=1).mean()),
    }
