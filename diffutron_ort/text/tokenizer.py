"""Text to token ids and back; the only importer of tokenizers."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

import tokenizers

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.errors import BundleError, InputError
from diffutron_ort.files import parse_object
from diffutron_ort.text.pipeline import KNOWN, Pipeline, judge, state
from diffutron_ort.types import SpecialIds

Result = TypeVar("Result")

CONTROL = re.compile(r"<(pad|eos|bos|unk|mask|start_of_turn|end_of_turn|2mass|unused\d+)>|\[@BOS@\]")
SAMPLE = "[Question]\nİyi ki ışık var: ağaç, 12 + 5?\n[/Question]\n\n\U0001f600\x00"
MASK = "<mask>"
SPACES = "".join(map(chr, range(0x2000, 0x200B)))
WHITE_SPACE = f"\t\n\v\f\r \x85\xa0\u1680{SPACES}\u2028\u2029\u202f\u205f\u3000"
"""Unicode's, which is the library's: Python's has more."""
MOST_PIECE = 4096  # characters that one token is ever thought to stand for
NORMALIZED = re.compile(rb'"normalized"\s*:\s*t')
ESCAPED = re.compile(rb"\\u00[2-7]")  # a letter that nobody needs to escape, but who hides a word
SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """The tokenizer of a bundle.

    Text that a user typed cannot become control tokens: `<mask>`, `<eos>` and the like are encoded letter by letter.
    """

    def __init__(self, content: bytes, name: str, vocab_size: int, special: SpecialIds) -> None:
        """Load and try out a tokenizer.json.

        What the file says of padding, truncation, dropout and post-processing is of no account.

        Args:
            content: Of the file.
            name: Of the file, for errors.
            vocab_size: Of the model; it has no piece with a higher id.
            special: Ids of the control tokens.

        Raises:
            BundleError: It cannot be loaded, may run for ever, or does not fit the model.
        """
        self._name, self._mask, self._vocab_size = name, special.mask, vocab_size
        if _normalizes_while_loading(content):
            self._judged(parse_object(content, name).values)
        self._tokenizer = self._guard(tokenizers.Tokenizer.from_buffer, "cannot be loaded", content)
        self._pipeline = self._judged({part: state(getattr(self._tokenizer, part)) for part in KNOWN})
        self._set_up()
        self._check_fit(special)
        added = self._tokenizer.get_added_tokens_decoder()
        self._mask_token = added.get(special.mask)
        self._added = {number: token for number, token in added.items() if not token.special}
        self._anchor = self._guard(self._find_anchor, "fails on a sample") if self._pipeline.strips else []
        self._guard(lambda: self.decode(self.encode(SAMPLE)), "fails on a sample")

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `<bos>` or `<eos>`.

        Raises:
            InputError: It is not a string, or has a lone surrogate.
        """
        check_text(text)
        encoding = self._guard(lambda: self._tokenizer.encode(text, add_special_tokens=False), "cannot encode")
        ids = list(encoding.ids)
        if (largest := max(ids, default=0)) >= self._vocab_size:
            raise BundleError(
                f"{self._name} has a piece with id {largest}, the model has {self._vocab_size}: they do not fit"
            )
        return ids

    def encode_masked(self, text: str) -> tuple[list[int], list[str]]:
        """Return the ids of `text` in which `<mask>` stands for a mask, and the pieces of text between the masks.

        A mask swallows the white space beside it that its added token says it does: the pieces still have it.

        Raises:
            InputError: It is not a string, or has a lone surrogate.
        """
        check_text(text)
        ids: list[int] = []
        for i, stretch in enumerate(self.stretches(text)):
            ids += [self._mask] * (i > 0) + self.encode(stretch)
        return ids, text.split(MASK)

    def stretches(self, text: str) -> list[str]:
        """Return the pieces of text between the masks without the white space that these swallow."""
        pieces, last = text.split(MASK), text.count(MASK)
        after, before = self._swallowed
        return [
            (piece.lstrip(after) if i > 0 and after else piece).rstrip(before if i < last else "")
            for i, piece in enumerate(pieces)
        ]

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, control tokens left out.

        The space that a piece after an added token (a run of newlines, a tag) decodes to is dropped where it is none of
        the text's, but one that is put before every stretch of text.
        """
        parts = []
        afresh = previous in self._added
        for is_added, group in groupby(ids, self._added.__contains__):
            part = self._guard(self._decode, "cannot decode", list(group))
            parts.append(self._without_prefix(part) if afresh else part)
            afresh = is_added
        return "".join(parts)

    def piece(self, token: int) -> str:
        """Return what a token looks like on its own, with ▁ for the space before a word."""
        return str(self._tokenizer.id_to_token(token))

    def least_tokens(self, characters: int) -> int:
        """Return how many tokens a text of so many characters has at least; the first call may take 0.3 s."""
        return -(-characters // self._longest)

    @cached_property
    def _longest(self) -> int:
        """The most characters of a text that one token stands for."""
        pieces = self._guard(self._tokenizer.get_vocab, "cannot be listed")
        bytewise = getattr(self._tokenizer.model, "byte_fallback", False) and all(
            f"<0x{byte:02X}>" in pieces for byte in range(256)
        )
        swallows = any(token.lstrip or token.rstrip for token in self._added.values())
        if not bytewise or swallows:  # one token can stand for any number of characters that are unknown, or spaces
            return MOST_PIECE
        return int(min(max(map(len, pieces)) * self._pipeline.shrinkage, MOST_PIECE))

    @cached_property
    def _swallowed(self) -> tuple[str, str]:
        """The white space that a mask swallows after and before it: all but what is a token or a part of one."""
        kept = {letter for token in self._added.values() for letter in token.content}
        space = "".join(letter for letter in WHITE_SPACE if letter not in kept)
        token = self._mask_token
        return (WHITE_SPACE if token and token.rstrip else "", space if token and token.lstrip else "")

    def _judged(self, parts: Mapping[str, Any]) -> Pipeline:
        """Judge what stands around the model before a text is given to it."""
        try:
            return judge(parts)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"{self._name}: {in_brief(error)}; export the model again") from error

    def _set_up(self) -> None:
        """Make all control tokens in a text text, and turn off what a file may have on."""
        for token in self._tokenizer.get_added_tokens_decoder().values():
            if CONTROL.fullmatch(token.content) and not token.special:
                token.special = True  # whatever the file says of it
                self._tokenizer.add_special_tokens([token])
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.post_processor = None
        if getattr(self._tokenizer.model, "dropout", None) is not None:
            self._tokenizer.model.dropout = None

    def _check_fit(self, special: SpecialIds) -> None:
        """Refuse a tokenizer that is another model's, or that takes control tokens out of a user's text."""
        pieces = self._tokenizer.get_vocab_size(with_added_tokens=True)  # all of them would take 0.3 s and 50 MB
        if pieces > self._vocab_size:
            raise BundleError(f"{self._name} has {pieces} pieces, the model has {self._vocab_size}: they do not fit")
        for name, number in vars(special).items():
            if self._tokenizer.token_to_id(f"<{name}>") != number:
                raise BundleError(
                    f"{self._name} has not <{name}> at {number}, where the manifest says: they do not fit"
                )
            if number != special.unk and number in self.encode(f"<{name}>"):
                raise BundleError(f"{self._name} takes a typed <{name}> for the control token; export the model again")

    def _find_anchor(self) -> list[int]:
        """Return a token that decodes to all of its piece wherever it stands, in a list."""
        tokens = [*self._added, *self.encode(SAMPLE)]
        return next([token] for token in tokens if self._tokenizer.decode([token] * 2) == self.piece(token) * 2)

    def _decode(self, ids: list[int]) -> str:
        """Return the text of `ids` alone; a decoder that strips what it is given strips the anchors around them."""
        text = self._tokenizer.decode([*self._anchor, *ids, *self._anchor])
        around = len(self.piece(self._anchor[0])) if self._anchor else 0
        return text[around : len(text) - around]

    def _without_prefix(self, text: str) -> str:
        """Return `text` without the space that is put before every stretch of text, or before every one without."""
        prefix = self._pipeline.prefix
        return text.removeprefix(" ") if prefix == "always" or (prefix == "missing" and text[1:2] != " ") else text

    def _guard(self, call: Callable[..., Result], what: str, *arguments: Any) -> Result:
        """Call the library, and turn whatever it raises into an error of ours."""
        try:
            return call(*arguments)
        except BaseException as error:
            # A Rust panic arrives as a BaseException of its own, which `except Exception` lets through.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise BundleError(f"{self._name} {what}: {in_brief(error)}; export the model again") from error
            raise


def _normalizes_while_loading(content: bytes) -> bool:
    """Return whether the library may run a file's normalizer as it loads it: on added tokens that are normalized."""
    return _holds(content, b'"normalized"', NORMALIZED) or _holds(content, b"\\u00", ESCAPED)


def _holds(content: bytes, start: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Return whether `pattern`, which begins with `start`, is found; five times faster than its own search."""
    place = content.find(start)
    while place >= 0 and not pattern.match(content, place):
        place = content.find(start, place + 1)
    return place >= 0


def check_text(text: object, name: str = "the text") -> None:
    """Refuse what no tokenizer can encode.

    Raises:
        InputError: `text` is not a string, or has a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is {brief(text)}, of type {type(text).__name__}: must be a string")
    lone = None if text.isascii() else SURROGATE.search(text)
    if lone:
        raise InputError(
            f"{name} has {lone[0]!r} at position {lone.start()}, half of a surrogate pair, which is not valid "
            "Unicode: decode the input as UTF-8"
        )
