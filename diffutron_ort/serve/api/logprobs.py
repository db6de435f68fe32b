"""Log-probabilities: of each token of an answer, in the step that committed it."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.sampler.sequence import Step
from diffutron_ort.serve.api.responses import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import Ids

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
LEAST = -9999.0  # where the probability is 0, as OpenAI has it


class Committed(NamedTuple):
    """A token on the canvas, and what else the model thought of at its position.

    Attributes:
        token: Its id.
        logprob: Of the token.
        ids: int64 [k], the best tokens.
        logprobs: float64 [k], theirs.
    """

    token: int
    logprob: float
    ids: Ids
    logprobs: NDArray[np.float64]


class Record:
    """Remembers the log-probabilities of one sequence's commits."""

    def __init__(self) -> None:
        self._committed: dict[int, Committed] = {}  # by position

    def add(self, step: Step) -> None:
        """Add a step."""
        with np.errstate(divide="ignore"):
            logprobs = np.maximum(np.log(step.confidence), LEAST)
        for i, position in enumerate(step.positions.tolist()):
            token, best = int(step.ids[position]), step.best
            self._committed[position] = Committed(token, float(logprobs[i]), best.ids[i], best.logprobs[i])

    def chat(self, last: Step, tokenizer: Tokenizer, most: int) -> ChatLogprobs:
        """Return those of the answer's tokens with the best `most` of each, as a chat has them."""
        return ChatLogprobs([_token(one, tokenizer, most) for one in self._answer(last)])

    def completion(self, last: Step, tokenizer: Tokenizer, most: int) -> CompletionLogprobs:
        """Return those of the answer's tokens with the best `most` of each, as a completion has them."""
        tokens = [_token(one, tokenizer, most) for one in self._answer(last)]
        texts = [one.token for one in tokens]
        offsets = np.cumsum([0, *map(len, texts)])[:-1].tolist()
        best = [{top.token: top.logprob for top in one.top_logprobs} for one in tokens]
        return CompletionLogprobs(texts, [one.logprob for one in tokens], best, offsets)

    def _answer(self, last: Step) -> Iterable[Committed]:
        return [self._committed[position] for position in last.answer.tolist() if position in self._committed]


def text_of(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token where it stands between others, as its vocabulary entry has it."""
    return tokenizer.piece(token).replace("▁", " ")


def _token(one: Committed, tokenizer: Tokenizer, most: int) -> TokenLogprob:
    pairs = zip(one.ids[:most].tolist(), one.logprobs[:most].tolist(), strict=True)
    best = [
        TopLogprob(text_of(tokenizer, token), max(logprob, LEAST), _bytes(tokenizer, token)) for token, logprob in pairs
    ]
    return TokenLogprob(text_of(tokenizer, one.token), one.logprob, _bytes(tokenizer, one.token), best)


def _bytes(tokenizer: Tokenizer, token: int) -> list[int]:
    """Return the bytes of a token, which may be a part of a character."""
    found = BYTE.fullmatch(tokenizer.piece(token))
    return [int(found[1], 16)] if found else list(text_of(tokenizer, token).encode())
