"""Encode text to token ids and decode it; the only module that imports tokenizers."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

import tokenizers

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.errors import BundleError, InputError
from diffutron_ort.files import parse_object
from diffutron_ort.text.tokenizer_guard import ALLOWED, Pipeline, as_json, check_pipeline
from diffutron_ort.types import SpecialIds

Result = TypeVar("Result")

CONTROL = re.compile(r"<(pad|eos|bos|unk|mask|start_of_turn|end_of_turn|2mass|unused\d+)>|\[@BOS@\]")
SAMPLE = "[Question]\nİyi ki ışık var: ağaç, 12 + 5?\n[/Question]\n\n\U0001f600\x00"
MASK = "<mask>"
STRANGER = "\U000f0000"  # a character for private use, which no vocabulary joins with its neighbours
SPACES = "".join(map(chr, range(0x2000, 0x200B)))
WHITE_SPACE = f"\t\n\v\f\r \x85\xa0\u1680{SPACES}\u2028\u2029\u202f\u205f\u3000"
"""Unicode's, as in the tokenizers library; Python's `str.isspace` accepts more."""
MOST_PIECE = 4096  # the upper bound that is assumed for the characters of one token
NORMALIZED = re.compile(rb'"normalized"\s*:\s*t')
ESCAPED = re.compile(rb"\\u00[2-7]")  # an ASCII character, which needs no escape except to hide a key
SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """The tokenizer of a bundle.

    User text never becomes control tokens: `<mask>`, `<eos>` and the like are encoded as ordinary characters.
    """

    def __init__(self, content: bytes, name: str, vocab_size: int, special: SpecialIds) -> None:
        """Load a tokenizer.json and try it on a sample.

        Its settings for padding, truncation, dropout and post-processing are ignored.

        Args:
            content: The content of the file.
            name: The file's name, for error messages.
            vocab_size: The size of the model's vocabulary; every token id is below it.
            special: The ids of the control tokens.

        Raises:
            BundleError: The file cannot be loaded, might run for ever, or does not match the model.
        """
        self._name, self._mask, self._vocab_size = name, special.mask, vocab_size
        if _normalizes_while_loading(content):
            self._check_pipeline(parse_object(content, name).values)
        self._tokenizer = self._guard(tokenizers.Tokenizer.from_buffer, "cannot be loaded", content)
        self._pipeline = self._check_pipeline({name: as_json(getattr(self._tokenizer, name)) for name in ALLOWED})
        self._configure()
        self._check_ids(special)
        added = self._tokenizer.get_added_tokens_decoder()
        self._mask_token = added.get(special.mask)
        self._added = {number: token for number, token in added.items() if not token.special}
        self._anchor = self._guard(self._find_anchor, "fails on a sample") if self._pipeline.strips else []
        self._guard(lambda: self.decode(self.encode(SAMPLE)), "fails on a sample")

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `<bos>` or `<eos>`.

        Raises:
            InputError: `text` is not a string, or contains a lone surrogate.
        """
        check_text(text)
        encoding = self._guard(lambda: self._tokenizer.encode(text, add_special_tokens=False), "cannot encode")
        ids = list(encoding.ids)
        if (largest := max(ids, default=0)) >= self._vocab_size:
            raise BundleError(
                f"{self._name}: id {largest} is outside the model's vocabulary of {self._vocab_size}; "
                "export the model again"
            )
        return ids

    def encode_masked(self, text: str) -> tuple[list[int], list[str]]:
        """Return the ids of `text`, with a mask for each `<mask>`, and the text between the masks.

        The mask token may absorb the white space beside it (`lstrip` and `rstrip` of its added token). The ids lack
        that white space; the returned text has it.

        Raises:
            InputError: `text` is not a string, or contains a lone surrogate.
        """
        check_text(text)
        ids: list[int] = []
        for i, stretch in enumerate(self.stretches(text)):
            ids += [self._mask] * (i > 0) + self.encode(stretch)
        return ids, text.split(MASK)

    def stretches(self, text: str) -> list[str]:
        """Return the text between the masks, without the white space that the masks absorb."""
        pieces, last = text.split(MASK), text.count(MASK)
        after, before = self._absorbed
        return [
            (piece.lstrip(after) if i > 0 and after else piece).rstrip(before if i < last else "")
            for i, piece in enumerate(pieces)
        ]

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, without control tokens.

        The tokenizer may put a space before each stretch of text, so also after an added token (a run of newlines, a
        tag). Such a space is not part of the text, and is removed.
        """
        parts = []
        follows_added = previous in self._added
        for is_added, group in groupby(ids, self._added.__contains__):
            part = self._guard(self._decode, "cannot decode", list(group))
            parts.append(self._without_prefix(part) if follows_added else part)
            follows_added = is_added
        return "".join(parts)

    def encode_after(self, text: str) -> list[int]:
        """Return the ids of a text that goes on where another text has ended: without a space that was not there.

        Raises:
            InputError: As for `encode`.
        """
        before = self.encode(STRANGER)
        ids = self.encode(STRANGER + text)
        return ids[len(before) :] if ids[: len(before)] == before else self.encode(text)

    def is_added(self, token: int) -> bool:
        """Return whether a token is one of those beside the model's own vocabulary, such as a run of newlines."""
        return token in self._added

    @property
    def adds_space(self) -> bool:
        """Whether a stretch of text, which begins with the text or after an added token, is given a leading space."""
        return self._pipeline.prefix != "never"

    def plain_texts(self) -> dict[int, str]:
        """Return the text of each token that stands for whole characters, wherever it is; takes a second.

        Control and added tokens are left out, and so are bytes that are no character or that another token stands for.
        """
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        anchor = self._anchor
        around = len(self.piece(anchor[0])) if anchor else 0
        lines = [[*anchor, token, *anchor] for token in range(size)]
        whole = self._guard(self._tokenizer.decode_batch, "cannot decode", lines)
        texts = {token: text[around : len(text) - around] for token, text in enumerate(whole)}
        plain = {token: text for token, text in texts.items() if text and "\ufffd" not in text}
        fallback = {self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
        others = {text for token, text in plain.items() if token not in fallback}
        return {
            token: text
            for token, text in plain.items()
            if token not in self._added and not (token in fallback and text in others)
        }

    def piece(self, token: int) -> str:
        """Return a token's entry in the vocabulary, with ▁ for the space before a word."""
        return str(self._tokenizer.id_to_token(token))

    def least_tokens(self, characters: int) -> int:
        """Return the fewest tokens that a text of that length can have; the first call may take 0.3 s."""
        return -(-characters // self._longest)

    @cached_property
    def _longest(self) -> int:
        """The most characters of a text that one token can stand for."""
        pieces = self._guard(self._tokenizer.get_vocab, "cannot be listed")
        bytewise = getattr(self._tokenizer.model, "byte_fallback", False) and all(
            f"<0x{byte:02X}>" in pieces for byte in range(256)
        )
        absorbs = any(token.lstrip or token.rstrip for token in self._added.values())
        if not bytewise or absorbs:  # one token can stand for any number of unknown characters, or of spaces
            return MOST_PIECE
        return int(min(max(map(len, pieces)) * self._pipeline.shrinkage, MOST_PIECE))

    @cached_property
    def _absorbed(self) -> tuple[str, str]:
        """The white space that a mask absorbs after it and before it; before it, no character of an added token."""
        kept = {letter for token in self._added.values() for letter in token.content}
        space = "".join(letter for letter in WHITE_SPACE if letter not in kept)
        token = self._mask_token
        return (WHITE_SPACE if token and token.rstrip else "", space if token and token.lstrip else "")

    def _check_pipeline(self, components: Mapping[str, Any]) -> Pipeline:
        """Check the components around the model before they see a text."""
        try:
            return check_pipeline(components)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"{self._name}: {in_brief(error)}; export the model again") from error

    def _configure(self) -> None:
        """Encode control tokens in a text as characters, and turn off truncation, padding and the like."""
        for token in self._tokenizer.get_added_tokens_decoder().values():
            if CONTROL.fullmatch(token.content) and not token.special:
                token.special = True  # whatever the file says
                self._tokenizer.add_special_tokens([token])
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.post_processor = None
        if getattr(self._tokenizer.model, "dropout", None) is not None:
            self._tokenizer.model.dropout = None

    def _check_ids(self, special: SpecialIds) -> None:
        """Refuse another model's tokenizer, and one that encodes user text as control tokens."""
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)  # listing all tokens takes 0.3 s and 50 MB
        if size > self._vocab_size:
            raise BundleError(
                f"{self._name} has {size} tokens, the model's vocabulary has {self._vocab_size}; export the model again"
            )
        for name, number in vars(special).items():
            if (found := self._tokenizer.token_to_id(f"<{name}>")) != number:
                raise BundleError(
                    f"{self._name}: <{name}> has id {found}, the manifest says {number}; export the model again"
                )
            if number != special.unk and number in self.encode(f"<{name}>"):
                raise BundleError(f"{self._name} encodes a typed <{name}> as the control token; export the model again")

    def _find_anchor(self) -> list[int]:
        """Return, in a list, a token that decodes to its whole vocabulary entry wherever it stands."""
        tokens = [*self._added, *self.encode(SAMPLE)]
        return next([token] for token in tokens if self._tokenizer.decode([token] * 2) == self.piece(token) * 2)

    def _decode(self, ids: list[int]) -> str:
        """Return the text of `ids`; a decoder that strips its ends strips the anchors around them instead."""
        text = self._tokenizer.decode([*self._anchor, *ids, *self._anchor])
        around = len(self.piece(self._anchor[0])) if self._anchor else 0
        return text[around : len(text) - around]

    def _without_prefix(self, text: str) -> str:
        """Return `text` without the space that the tokenizer put before it; see `Pipeline.prefix`."""
        prefix = self._pipeline.prefix
        return text.removeprefix(" ") if prefix == "always" or (prefix == "missing" and text[1:2] != " ") else text

    def _guard(self, call: Callable[..., Result], what: str, *arguments: Any) -> Result:
        """Call the library; raise a BundleError for any error in it."""
        try:
            return call(*arguments)
        except BaseException as error:
            # A Rust panic is a BaseException but not an Exception, and its class cannot be imported.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise BundleError(f"{self._name} {what}: {in_brief(error)}; export the model again") from error
            raise


def _normalizes_while_loading(content: bytes) -> bool:
    """Return whether the library may run the normalizer while it loads: on added tokens that are normalized."""
    return _holds(content, b'"normalized"', NORMALIZED) or _holds(content, b"\\u00", ESCAPED)


def _holds(content: bytes, start: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Return whether `pattern`, which begins with `start`, occurs; five times faster than `pattern.search`."""
    place = content.find(start)
    while place >= 0 and not pattern.match(content, place):
        place = content.find(start, place + 1)
    return place >= 0


def check_text(text: object, name: str = "the text") -> None:
    """Refuse a text that no tokenizer can encode.

    Raises:
        InputError: `text` is not a string, or contains a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is {brief(text)}, of type {type(text).__name__}: must be a string")
    lone = None if text.isascii() else SURROGATE.search(text)
    if lone:
        raise InputError(
            f"{name} has {lone[0]!r} at position {lone.start()}, half of a surrogate pair, which is not valid "
            "Unicode: decode the input as UTF-8"
        )
