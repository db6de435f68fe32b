"""The stop rule: where an answer ends, what of it is shown, and when that can change no more.

What ends an answer by its ids is `<pad>`, `<eos>` or a stop sequence of the bundle's, as in the graph of the whole
generation. What ends it by its text is a stop string of the user's, or a stop sequence of the bundle's that is spelled
in other tokens. Whatever is complete first ends it, of several the longest: more text behind it changes nothing, which
is what lets a generation end early.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from diffutron_ort.types import Ids, SpecialIds

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what each byte of a run that is no UTF-8 is decoded to


class Decoder(Protocol):
    """Ids to text; `diffutron_ort.text.tokenizer.Tokenizer` is one."""

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        """Return the text of `ids`, which follow the token `previous`, control tokens left out."""

    def piece(self, token: int) -> str:
        """Return what a token looks like on its own."""


class End(NamedTuple):
    """What ends an answer, in positions of its tokens or letters: the one behind it, and the one where it begins.

    Of several ends, the least is the one that counts.
    """

    complete: int
    begin: int


class Ends:
    """What ends an answer by its ids."""

    def __init__(self, special: SpecialIds, sequences: Sequence[Sequence[int]]) -> None:
        self._mask = special.mask
        self._sequences = [(special.pad,), (special.eos,), *sequences]

    def find(self, ids: Ids) -> End | None:
        """Return the end that counts among the generated tokens `ids` [m]."""
        found = [End(place + len(s), place) for s in self._sequences if (place := _place(ids, s)) >= 0]
        return min(found, default=None)

    def has_ended(self, ids: Ids) -> bool:
        """Return whether there is an end in `ids` [m] with no mask before it."""
        return self.find(self.committed(ids)) is not None

    def committed(self, ids: Ids) -> Ids:
        """Return the tokens of `ids` [m] before the first mask."""
        masks = np.flatnonzero(ids == self._mask)
        return ids[: masks[0]] if masks.size else ids

    def answer(self, ids: Ids) -> Ids:
        """Return the tokens of `ids` [m] that are the answer's."""
        end = self.find(ids)
        return ids if end is None else ids[: end.begin]


class StopRule:
    """What ends an answer by its ids or by its text."""

    def __init__(
        self,
        decoder: Decoder,
        special: SpecialIds,
        own: Sequence[tuple[str, Sequence[int]]],
        strings: Sequence[str] = (),
    ) -> None:
        """Combine the bundle's stop sequences, as text and as ids, with the user's stop strings."""
        self._decoder, self._mask, self._strings = decoder, special.mask, strings
        self._own = [text for text, _ in own]
        self._ends = Ends(special, [ids for _, ids in own])

    def text(self, ids: Ids, start: int) -> str:
        """Return the answer on a canvas [length] whose generated span begins at `start`, without its masks.

        A stop string may overlap the stop sequence of the bundle's that ends the answer, so it is looked for in both.
        """
        generated, previous = _generated(ids, start)
        end = self._ends.find(generated) or End(len(generated), len(generated))
        answer, whole = (self._decode(generated[:stop], previous) for stop in (end.begin, end.complete))
        cut = self._find(whole)
        if cut is None or (cut.complete > len(answer) and self._is_own(whole, cut)):
            return answer
        return self._before(whole, cut)

    def is_settled(self, ids: Ids, start: int) -> bool:
        """Return whether `text` is the same whatever becomes of the masks on a canvas [length].

        The bundle's own stop sequences count by their ids alone where there is no stop string, so that the loop takes
        the steps that the graph of the whole generation takes.
        """
        generated, previous = _generated(ids, start)
        if self._ends.has_ended(generated):
            return True
        return bool(self._strings) and self._is_cut(self._beginnings(generated, previous))

    def _is_cut(self, texts: Sequence[str]) -> bool:
        """Return whether every one of `texts` is cut, and to the same answer."""
        cuts = [self._find(text) for text in texts]
        return len({cut and self._before(text, cut) for text, cut in zip(texts, cuts, strict=True)}) == 1 and all(cuts)

    def _find(self, text: str) -> End | None:
        strings = (*self._own, *self._strings)
        return min((End(place + len(s), place) for s in strings if (place := text.find(s)) >= 0), default=None)

    def _is_own(self, text: str, cut: End) -> bool:
        return text[cut.begin : cut.complete] in self._own

    def _before(self, text: str, cut: End) -> str:
        """Return what is shown of a text: one space before a stop sequence of the bundle's is its first token's."""
        shown = text[: cut.begin]
        return shown.removesuffix(" ") if self._is_own(text, cut) else shown

    def _beginnings(self, ids: Ids, previous: int | None) -> list[str]:
        """Return the text of the tokens of `ids` [m] before the first mask, as it may begin once there are more.

        It changes only where they end with a run of byte tokens, which is decoded as one: the next byte may complete a
        character, or make the whole run invalid. (A byte-level decoder shows the beginning of a character as U+FFFD.)
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
        """Return the positions of the byte tokens at the end of `ids` [m]; tokens without a text do not part them."""
        run = []
        for place in range(len(ids) - 1, -1, -1):
            if self._byte(ids[place]) is not None:
                run.append(place)
            elif self._decode(ids[place : place + 1]):
                break
        return run[::-1]

    def _can_go_on(self, ids: Ids, missing: int) -> bool:
        """Return whether a run of bytes that wants `missing` more can be valid when `ids` [m], a mask first, follow."""
        wants = {missing}  # a mask may become one of them, or nothing, or what ends the run
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
        """Yield those of `ids` [m] that have a text, or are masks, each with its byte where it is one."""
        for place, token in enumerate(ids.tolist()):
            if token == self._mask or self._decode(ids[place : place + 1]):
                yield token, self._byte(token)

    def _byte(self, token: int) -> int | None:
        found = BYTE.fullmatch(self._decoder.piece(int(token)))
        return int(found[1], 16) if found else None

    def _decode(self, ids: Ids, previous: int | None = None) -> str:
        return self._decoder.decode(ids.tolist(), previous)


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
    """Return the beginning of a character at the end of `run`; nothing where the run is whole, or cannot be valid."""
    try:
        _, read = codecs.utf_8_decode(run, "strict", False)
    except UnicodeDecodeError:
        return b""
    return run[read:]


def _size(lead: int) -> int:
    """Return how many bytes a character has in UTF-8 whose first is `lead`."""
    return 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
