"""The stop rule: where an answer ends, how much of it is shown, and when that can no longer change.

An answer ends by its ids at `<pad>`, `<eos>` or a stop sequence of the bundle, as in the generation graph. It ends by
its text at one of the user's stop strings, or at a stop sequence of the bundle that is spelled with other tokens. The
one that is complete first counts, and of several that complete together the longest. Text that follows changes nothing,
which is why a generation can end early.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from diffutron_ort.types import Ids, SpecialIds

MOST_BYTES = 4  # in a UTF-8 character
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # each byte of a run that is not valid UTF-8 decodes to it


class Decoder(Protocol):
    """Ids to text; `diffutron_ort.text.tokenizer.Tokenizer` is one."""

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, control tokens left out."""

    def piece(self, token: int) -> str:
        """Return the vocabulary entry of a token."""


class End(NamedTuple):
    """A stop sequence or string in an answer, by positions of tokens or letters.

    Of several, the least counts.

    Attributes:
        complete: The position after it.
        begin: The position where it begins.
    """

    complete: int
    begin: int


class Ends:
    """Finds where an answer ends by its ids."""

    def __init__(self, special: SpecialIds, sequences: Sequence[Sequence[int]]) -> None:
        self._mask = special.mask
        self._sequences = [(special.pad,), (special.eos,), *sequences]

    def find(self, ids: Ids) -> End | None:
        """Return the first end among the generated tokens `ids` [m]."""
        found = [End(place + len(s), place) for s in self._sequences if (place := _place(ids, s)) >= 0]
        return min(found, default=None)

    def has_ended(self, ids: Ids) -> bool:
        """Return whether an end stands in `ids` [m] before any mask."""
        return self.find(self.committed(ids)) is not None

    def committed(self, ids: Ids) -> Ids:
        """Return the tokens of `ids` [m] before the first mask."""
        masks = np.flatnonzero(ids == self._mask)
        return ids[: masks[0]] if masks.size else ids

    def begun(self, ids: Ids) -> int:
        """Return how many tokens at the end of `ids` [m] may be the beginning of a stop sequence."""
        begun = (n for s in self._sequences for n in range(1, len(s)) if ids[-n:].tolist() == list(s[:n]))
        return max(begun, default=0)

    def answer(self, ids: Ids) -> Ids:
        """Return the tokens of `ids` [m] that are the answer's."""
        end = self.find(ids)
        return ids if end is None else ids[: end.begin]


class StopRule:
    """Finds where an answer ends by its ids or by its text."""

    def __init__(
        self,
        decoder: Decoder,
        special: SpecialIds,
        own: Sequence[tuple[str, Sequence[int]]],
        strings: Sequence[str] = (),
        *,
        strip: bool = False,
    ) -> None:
        """Combine the bundle's stop sequences, as text and as ids, with the user's stop strings.

        Args:
            decoder: Ids to text.
            special: The control tokens.
            own: The bundle's stop sequences.
            strings: The user's stop strings.
            strip: Whether white space around the answer is left out.
        """
        self._decoder, self._mask, self._strings, self._strip = decoder, special.mask, strings, strip
        self._own = [text for text, _ in own]
        self._ends = Ends(special, [ids for _, ids in own])

    def text(self, ids: Ids, start: int) -> str:
        """Return the answer on a canvas [length] whose generated span begins at `start`, without its masks."""
        text = self._raw_text(*_generated(ids, start))
        return text.strip() if self._strip else text

    def settled(self, ids: Ids, start: int) -> str:
        """Return the beginning of `text` that no choice of tokens for the masks on a canvas [length] can change.

        It only grows from step to step. It never ends within a character, with a possible beginning of a stop string,
        or with white space.
        """
        generated, previous = _generated(ids, start)
        if self.is_settled(ids, start) or not (generated == self._mask).any():
            return self.text(ids, start)
        more = np.full(MOST_BYTES, self._mask)  # whatever follows may complete or break a character
        text = _common_beginning(self._beginnings(np.concatenate([self._certain(generated), more]), previous))
        cut = self._find(text)
        text = self._before(text, cut) if cut else text[: len(text) - self._begun(text)]
        return text.strip() if self._strip else text.rstrip()

    def ending(self, ids: Ids, start: int) -> tuple[Ids, bool]:
        """Return which positions [n] of a canvas [length] hold the answer's tokens, and whether something ended it.

        Masks are left out. If a stop string ends the answer, its tokens are those that it takes to spell it.
        """
        generated, previous = _generated(ids, start)
        end = self._ends.find(generated)
        complete, begin = end or End(len(generated), len(generated))
        text = self._raw_text(generated, previous)
        is_cut = text != self._decode(generated[:begin], previous)
        answer = generated[: self._spelling(text, generated[:complete], previous) if is_cut else begin]
        return start + np.flatnonzero(answer != self._mask), is_cut or end is not None

    def is_settled(self, ids: Ids, start: int) -> bool:
        """Return whether no choice of tokens for the masks on a canvas [length] can change `text`.

        Without stop strings, the bundle's own stop sequences count by their ids alone, so that the loop takes the same
        steps as the generation graph.
        """
        generated, previous = _generated(ids, start)
        if self._ends.has_ended(generated):
            return True
        safe = len(self._decode(self._certain(generated), previous)) if self._strings else 0
        return bool(self._strings) and self._is_cut(self._beginnings(generated, previous), safe)

    def _raw_text(self, generated: Ids, previous: int | None) -> str:
        """Return the answer in the generated tokens [m].

        A stop string can overlap the stop sequence that ends the answer, so the search includes that sequence.
        """
        end = self._ends.find(generated) or End(len(generated), len(generated))
        answer, whole = (self._decode(generated[:stop], previous) for stop in (end.begin, end.complete))
        cut = self._find(whole)
        if cut is None or (cut.complete > len(answer) and self._is_own(whole, cut)):
            return answer
        return self._before(whole, cut)

    def _spelling(self, text: str, ids: Ids, previous: int | None) -> int:
        """Return how many of `ids` [m] it takes to spell a text."""
        counts = range(len(ids))  # one by one, because a byte that breaks a character takes letters back
        return next((n for n in counts if self._decode(ids[:n], previous).startswith(text)), len(ids))

    def _begun(self, text: str) -> int:
        """Return how many letters at the end of a text may be the beginning of a stop string."""
        strings = [s for s in (*self._own, *self._strings) if s]
        begun = (n for s in strings for n in range(1, min(len(s), len(text) + 1)) if text.endswith(s[:n]))
        return max(begun, default=0)

    def _is_cut(self, texts: Sequence[str], safe: int) -> bool:
        """Return whether every one of `texts` is cut to the same answer, and more tokens cannot change that.

        Tokens that have begun a stop sequence of the bundle, after the first `safe` letters, may come to end the answer
        where they begin, whatever stop sequence is spelled within their text.
        """
        cuts = [self._find(text) for text in texts]
        shown = {cut and self._before(text, cut) for text, cut in zip(texts, cuts, strict=True)}
        if len(shown) != 1 or not all(cuts):
            return False
        pairs = zip(texts, cuts, strict=True)
        return all(cut and (cut.complete <= safe or not self._is_own(text, cut)) for text, cut in pairs)

    def _certain(self, ids: Ids) -> Ids:
        """Return the tokens of `ids` [m] before the first mask, without those that may begin a stop sequence."""
        committed = self._ends.committed(ids)
        return committed[: len(committed) - self._ends.begun(committed)]

    def _find(self, text: str) -> End | None:
        strings = (*self._own, *self._strings)
        return min((End(place + len(s), place) for s in strings if (place := text.find(s)) >= 0), default=None)

    def _is_own(self, text: str, cut: End) -> bool:
        return text[cut.begin : cut.complete] in self._own

    def _before(self, text: str, cut: End) -> str:
        """Return the text before a cut, less the one space that belongs to the first token of a stop sequence."""
        shown = text[: cut.begin]
        return shown.removesuffix(" ") if self._is_own(text, cut) else shown

    def _beginnings(self, ids: Ids, previous: int | None) -> list[str]:
        """Return the texts that the tokens of `ids` [m] before the first mask can become when more tokens follow.

        There are several only if they end with a run of byte tokens, which is decoded as a whole: the next byte can
        complete a character or make the run invalid. (A byte-level decoder shows an incomplete character as U+FFFD.)
        """
        committed = self._ends.committed(ids)
        texts = [self._decode(committed, previous)]
        if len(committed) == len(ids):
            return texts
        run = self._byte_run(committed)
        if not run:
            return [*texts, texts[0].removesuffix(REPLACEMENT)]
        texts.append(self._decode(committed[: run[0]], previous) + REPLACEMENT * (len(run) + 1))
        cut_off = _cut_off(bytes(self._byte(committed[place]) or 0 for place in run))
        rest = self._ends.answer(ids)[len(committed) :]
        if cut_off and self._can_go_on(rest, _size(cut_off[0]) - len(cut_off)):
            texts.append(self._decode(committed[: run[-len(cut_off)]], previous))
        return texts

    def _byte_run(self, ids: Ids) -> list[int]:
        """Return the positions of the byte tokens at the end of `ids` [m]; tokens without text are skipped."""
        run = []
        for place in range(len(ids) - 1, -1, -1):
            if self._byte(ids[place]) is not None:
                run.append(place)
            elif self._decode(ids[place : place + 1]):
                break
        return run[::-1]

    def _can_go_on(self, ids: Ids, missing: int) -> bool:
        """Return whether a byte run that lacks `missing` bytes can become valid with `ids` [m] after it."""
        wants = {missing}  # a mask may become one of these bytes, a token without text, or one that ends the run
        for token, byte in self._bytes(ids):
            if token == self._mask:
                if 0 in wants:
                    return True
                wants |= {want - 1 for want in wants}
            elif byte is None:
                break
            elif 0x80 <= byte < 0xC0:
                wants = {want - 1 for want in wants if want}
            else:
                wants = {_size(byte) - 1} if 0 in wants else set()
        return 0 in wants

    def _bytes(self, ids: Ids) -> Iterator[tuple[int, int | None]]:
        """Yield the masks and the tokens with text among `ids` [m], each with its byte if it is a byte token."""
        for place, token in enumerate(ids.tolist()):
            if token == self._mask or self._decode(ids[place : place + 1]):
                yield token, self._byte(token)

    def _byte(self, token: int) -> int | None:
        found = BYTE.fullmatch(self._decoder.piece(int(token)))
        return int(found[1], 16) if found else None

    def _decode(self, ids: Ids, previous: int | None = None) -> str:
        return self._decoder.decode(ids.tolist(), previous)


def _common_beginning(texts: Sequence[str]) -> str:
    """Return the longest text that each of `texts` begins with."""
    first, last = min(texts), max(texts)  # which differ the most
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def _generated(ids: Ids, start: int) -> tuple[Ids, int | None]:
    """Return the tokens of a canvas [length] from `start` on, and the one before them."""
    return ids[start:], ids[start - 1].item() if start else None


def _place(ids: Ids, sequence: Sequence[int]) -> int:
    """Return where `sequence` stands first in `ids` [m], or -1."""
    for place in np.flatnonzero(ids == sequence[0]).tolist():
        if ids[place : place + len(sequence)].tolist() == list(sequence):
            return place
    return -1


def _cut_off(run: bytes) -> bytes:
    """Return the incomplete character at the end of `run`; nothing if the run is complete or invalid."""
    try:
        _, read = codecs.utf_8_decode(run, "strict", False)
    except UnicodeDecodeError:
        return b""
    return run[read:]


def _size(lead: int) -> int:
    """Return the number of bytes of the UTF-8 character whose first byte is `lead`."""
    return 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
