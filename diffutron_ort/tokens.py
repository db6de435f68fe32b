"""Text to token ids and back; the only importer of tokenizers."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

from diffutron_ort.canvas import SpecialIds
from diffutron_ort.errors import BundleError, InputError

Result = TypeVar("Result")

CONTROL = re.compile(r"<(pad|eos|bos|unk|mask|start_of_turn|end_of_turn|2mass|unused\d+)>|\[@BOS@\]")
SAMPLE = "[Question]\nİyi ki ışık var: ağaç, 12 + 5?\n[/Question]\n\n\U0001f600\x00"


class Tokenizer:
    """The tokenizer of a bundle.

    Text that a user typed cannot become control tokens: `<mask>`, `<eos>` and the like are encoded letter by letter.
    """

    def __init__(self, path: Path, vocab_size: int, special: SpecialIds) -> None:
        """Load and try out a tokenizer.json.

        Args:
            path: The file.
            vocab_size: Of the model; it has no piece with a higher id.
            special: Ids of the control tokens.

        Raises:
            BundleError: It cannot be loaded, or does not fit the model.
        """
        self._path, self._mask, self._vocab_size = path, special.mask, vocab_size
        self._tokenizer = self._load(_read(path))
        pieces = self._tokenizer.get_vocab_size(with_added_tokens=True)  # all of them would take 0.3 s and 50 MB
        if pieces > vocab_size:
            raise BundleError(f"{path} has {pieces} pieces, the model has {vocab_size}: they do not fit")
        for name, number in vars(special).items():
            if self._tokenizer.token_to_id(f"<{name}>") != number:
                raise BundleError(f"{path} has not <{name}> at {number}, where the manifest says: they do not fit")
        added = self._tokenizer.get_added_tokens_decoder()
        self._breaks = {number for number, token in added.items() if token.content.isspace()}
        self._guard(lambda: self.decode(self.encode(SAMPLE)), "fails on a sample")

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `<bos>` or `<eos>`.

        Raises:
            InputError: It is not a string, or has a lone surrogate.
        """
        return self._encode(self._tokenizer, text)

    def encode_masked(self, text: str) -> tuple[list[int], list[str]]:
        """Return the ids of `text` in which `<mask>` stands for a mask, and the pieces of text between the masks.

        A mask swallows the white space before it: the pieces still have it.

        Raises:
            InputError: It is not a string, or has a lone surrogate.
        """
        ids = self._encode(self._mask_aware, text)
        return ids, text.split(self._tokenizer.id_to_token(self._mask))

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, control tokens left out.

        The one space that a piece after a run of newlines or tabs decodes to is dropped: it is none of the text's, but
        the pre-tokenizer's, which puts one before every stretch of text that has none.
        """
        parts = []
        after_break = previous in self._breaks
        for is_break, group in groupby(ids, self._breaks.__contains__):
            part = self._guard(self._tokenizer.decode, "cannot decode", list(group))
            parts.append(part.removeprefix(" ") if after_break and not part.startswith("  ") else part)
            after_break = is_break
        return "".join(parts)

    def piece(self, token: int) -> str:
        """Return what a token looks like on its own, with ▁ for the space before a word."""
        return str(self._tokenizer.id_to_token(token))

    @cached_property
    def _mask_aware(self) -> tokenizers.Tokenizer:
        """The same tokenizer, but with `<mask>` as an ordinary added token, which is taken out of any text."""
        try:
            specification = json.loads(_read(self._path))
            for token in specification["added_tokens"]:
                token["special"] = token["special"] and token["id"] != self._mask
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{self._path} is malformed: {error}; export the model again") from error
        return self._load(json.dumps(specification).encode(), spare=self._mask)

    def _load(self, specification: bytes, spare: int | None = None) -> tokenizers.Tokenizer:
        """Return a tokenizer to which all control tokens in a text are text, but for the one with the id to `spare`."""
        tokenizer = self._guard(tokenizers.Tokenizer.from_buffer, "cannot be loaded", specification)
        for number, token in tokenizer.get_added_tokens_decoder().items():
            if CONTROL.fullmatch(token.content) and not token.special and number != spare:
                token.special = True  # whatever the file says of it
                tokenizer.add_special_tokens([token])
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _encode(self, tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
        check_text(text)
        encoding = self._guard(lambda: tokenizer.encode(text, add_special_tokens=False), "cannot encode")
        ids = list(encoding.ids)
        if (largest := max(ids, default=0)) >= self._vocab_size:
            raise BundleError(
                f"{self._path} has a piece with id {largest}, the model has {self._vocab_size}: they do not fit"
            )
        return ids

    def _guard(self, call: Callable[..., Result], what: str, *arguments: Any) -> Result:
        """Call the library, and turn whatever it raises into an error of ours."""
        try:
            return call(*arguments)
        except BaseException as error:
            # A Rust panic arrives as a BaseException of its own, which `except Exception` lets through.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise BundleError(f"{self._path} {what}: {error}; export the model again") from error
            raise


def check_text(text: object, name: str = "text") -> None:
    """Refuse what no tokenizer can encode.

    Raises:
        InputError: `text` is not a string, or has a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"the {name} is {text!r}, of type {type(text).__name__}: must be a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {name} has {text[error.start]!r} at position {error.start}, half of a surrogate pair, which is not "
            "valid Unicode: decode the input as UTF-8"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}; export the model again") from error
