"""What the two kinds of request have in common: they become sequences, and these become answers and chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec import Struct

from diffutron_ort.completion import Completion
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.serve.api.logprobs import Record
from diffutron_ort.serve.api.requests import Asked, Generated
from diffutron_ort.serve.api.responses import ChatChunk, CompletionChunk, Figures, FinishReason, Usage
from diffutron_ort.text.tokenizer import Tokenizer

Chunk = ChatChunk | CompletionChunk


class Head(NamedTuple):
    """The first fields of an answer, and of each of its chunks.

    Attributes:
        id: Of the answer.
        created: In seconds since 1970.
        model: Its name.
        system_fingerprint: Changes whenever the same request may get another answer.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(frozen=True)
class Ended:
    """A choice whose sequence has ended.

    Attributes:
        index: Its number.
        completion: Its text and figures.
        last: Its last step.
        record: Its log-probabilities; None if they are not wanted.
        most: How many of the best tokens are told for each of its own.
        tokenizer: Of the model.
    """

    index: int
    completion: Completion
    last: Step
    record: Record | None
    most: int
    tokenizer: Tokenizer

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended."""
        return "stop" if self.completion.finish_reason == sampler.STOP else "length"

    @property
    def figures(self) -> Figures:
        """What it took."""
        found = self.completion
        return Figures(
            found.steps,
            found.passes.full,
            found.passes.cached,
            found.masks_left,
            found.mean_confidence,
            found.least_confidence,
        )


class Kind(Protocol[Generated]):
    """A kind of request.

    Attributes:
        request: What its body holds.
        prefix: What the ids of its answers begin with.
        param: The field with the text, for errors.
    """

    request: type[Generated]
    prefix: str
    param: str

    def sequences(self, model: Diffutron, asked: Asked[Generated], allow_tags: bool) -> Iterator[sampler.Sequence]:
        """Yield the sequences that answer a request, those of its first prompt first.

        Raises:
            InputError: A text cannot be answered.
            OptionError: Options contradict each other.
        """

    def count(self, request: Generated) -> int:
        """Return the number of sequences."""

    def logprobs(self, request: Generated) -> int | None:
        """Return how many of the best tokens are wanted for each token of an answer; None without log-probabilities."""

    def whole(self, head: Head, choices: Sequence[Ended], usage: Usage) -> Struct:
        """Return the whole answer."""

    def opening(self, head: Head, index: int) -> Chunk:
        """Return the chunk that the stream of a choice begins with."""

    def chunk(self, head: Head, index: int, text: str, ended: Ended | None = None) -> Chunk:
        """Return a chunk with text of one choice; with `ended`, its last."""

    def closing(self, head: Head, usage: Usage) -> Chunk:
        """Return the chunk that tells the usage, after all choices."""
