"""Streams: settled text piece by piece, or the whole text and the canvas after every step."""

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.serve.api.diffusing import Canvas
from diffutron_ort.serve.api.kinds import Chunk, Ended, Head, Kind
from diffutron_ort.serve.api.requests import Generated


class Form(Protocol):
    """What a stream is made of."""

    def before(self) -> Iterator[Chunk]:
        """Yield the chunks before the first step."""

    def after(self, index: int, step: Step, ended: Ended | None) -> Iterator[Chunk]:
        """Yield the chunks after a step of choice `index`, which it may have ended."""


class Pieces(Generic[Generated]):
    """Each chunk adds to the text of its choice: what no later step can change."""

    def __init__(self, kind: Kind[Generated], head: Head, count: int) -> None:
        self._kind, self._head, self._sent = kind, head, [0] * count

    def before(self) -> Iterator[Chunk]:
        """Yield the opening of each choice."""
        for index in range(len(self._sent)):
            yield self._kind.opening(self._head, index)

    def after(self, index: int, step: Step, ended: Ended | None) -> Iterator[Chunk]:
        """Yield the text that the step has settled, if any; for the last step, also why the choice ended."""
        text = step.settled
        if more := text[self._sent[index] :]:
            self._sent[index] = len(text)
            yield self._kind.chunk(self._head, index, more)
        if ended is not None:
            yield self._kind.chunk(self._head, index, "", ended)


class Canvases(Generic[Generated]):
    """Each chunk replaces the text of its choice, and has the canvas beside it."""

    def __init__(
        self, kind: Kind[Generated], head: Head, model: Diffutron, sequences: Sequence[sampler.Sequence]
    ) -> None:
        self._kind, self._head = kind, head
        self._canvases = [Canvas(model, sequence) for sequence in sequences]

    def before(self) -> Iterator[Chunk]:
        """Yield the opening of each choice, with its masks."""
        for index, canvas in enumerate(self._canvases):
            chunk = self._kind.opening(self._head, index)
            chunk.diffutron = canvas.before()
            yield chunk

    def after(self, index: int, step: Step, ended: Ended | None) -> Iterator[Chunk]:
        """Yield the text and the canvas after the step."""
        chunk = self._kind.chunk(self._head, index, step.text, ended)
        chunk.diffutron = self._canvases[index].after(step)
        yield chunk
