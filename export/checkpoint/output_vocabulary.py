"""Reads the output vocabulary: the ids that an exported head can predict."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import OptionError
from diffutron_ort.files import Artifact, read_bytes
from diffutron_ort_export.checkpoint.messages import printable
from diffutron_ort_export.checkpoint.tokenizer import Tokenizer

Ids = NDArray[np.int64]

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
COMMENT = re.compile(r"(#|//).*")
SPACE = "▁"

MOST_DIGITS = 20
"""Digits of a number that are read; a number that has more is beyond every vocabulary anyway."""

MOST_LINE = 10_000
"""The most characters that are tokenized at once."""


def read_output_vocabulary(path: str | Path, tokenizer: Tokenizer) -> Ids:
    """Return the ids that a head needs for the language of a text: int64 [m], ascending.

    These are the ids of the text, tokenized line by line, and in any case all special and added tokens, all bytes, all
    pieces made only of digits and punctuation, and the tokens of the answer's end.

    Args:
        path: A text file in UTF-8; if it holds only numbers, spaces, commas and brackets, the numbers are the ids.
        tokenizer: The source's tokenizer.

    Raises:
        OptionError: The file cannot be read, is empty, looks like a malformed list of ids, or has an id that the
            tokenizer does not have.
    """
    place = f"output vocabulary {printable(str(path))}"
    content = read_text(Path(path), place)
    numbers = re.split(r"[\s,\[\]]+", content.strip("[], \n\t\r"))
    if all(number.isdecimal() for number in numbers):
        found = {int(number[:MOST_DIGITS]) for number in numbers}
    elif is_nearly_ids(content):
        raise OptionError(
            f"{place} is neither a text nor a list of ids: letters are less than half of it, or in comments "
            "alone; give ids separated by commas or white space, or a text in the language"
        )
    else:
        found = {i for line in lines(content) for i in tokenizer.encode(line)}
    if beyond := [i for i in found if i >= tokenizer.size]:
        raise OptionError(f"{place} names id {min(beyond)}; the tokenizer has {tokenizer.size} pieces")
    return np.array(sorted(found | always(tokenizer)), np.int64)


def read_text(path: Path, place: str) -> str:
    """Return the text of a file."""
    artifact = Artifact(OptionError, OptionError, "give a text file in UTF-8, or a list of ids")
    content = read_bytes(path, artifact)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{place} is not UTF-8: {error}; {artifact.remedy}") from error
    if "\0" in text:
        raise OptionError(f"{place} holds a NUL, as text in UTF-16 does; {artifact.remedy}")
    if not text.strip("[], \n\t\r"):
        raise OptionError(f"{place} is empty; {artifact.remedy}")
    return text


def is_nearly_ids(content: str) -> bool:
    """Return whether a text was probably meant as a list of ids.

    It was if letters make up less than half of the text or of most of its lines, or occur in comments only.
    """
    bare = COMMENT.sub("", content)
    if bare.strip() and not any(map(str.isalpha, bare)):
        return True
    lines = [line for line in content.splitlines() if line.strip()]
    lettered = [line for line in lines if is_lettered(line)]
    return not is_lettered(content) or 2 * len(lettered) < len(lines)


def is_lettered(text: str) -> bool:
    """Return whether at least half of a text, not counting white space, is letters."""
    visible = [character for character in text if not character.isspace()]
    return 2 * sum(unicodedata.category(character)[0] in "LM" for character in visible) >= len(visible)


def lines(content: str) -> Iterator[str]:
    """Yield the lines of a text; a long line is split, at white space if it has any."""
    for line in content.splitlines():
        yield from re.findall(rf".{{1,{MOST_LINE}}}(?!\S)|.{{{MOST_LINE}}}", line)


def always(tokenizer: Tokenizer) -> set[int]:
    """Return the ids that every output vocabulary contains."""
    made = tokenizer.loaded
    plain = {i for piece, i in made.get_vocab().items() if BYTE.fullmatch(piece) or is_sign(piece.strip(SPACE))}
    return plain | {*made.get_added_tokens_decoder(), *tokenizer.special_ids.values(), *tokenizer.answer_end}


def is_sign(text: str) -> bool:
    """Return whether a text has only digits, punctuation, symbols and white space."""
    return all(unicodedata.category(character)[0] in "NPSZ" for character in text)
