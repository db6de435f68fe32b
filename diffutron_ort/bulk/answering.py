"""Answer records in batches by length: when a sequence ends, another joins, and the answers come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from diffutron_ort.bulk.records import PROMPT, Record, answered, failed, requested
from diffutron_ort.completion import Tally
from diffutron_ort.errors import DiffutronError, InputError, NumericsError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.engine import batch_size
from diffutron_ort.sampler.sequence import Sequence

BATCHES = 4  # in a window: with more of them, lengths in a pass differ less, and a kill loses more answers


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for all records.

    Attributes:
        column: The name of a record's prompt.
        template: Whether to put prompts into the chat template.
        preset: The options to start from; None is the model's own.
        options: Fields of `GenerationConfig`. A record's own options override them.
    """

    column: str = PROMPT
    template: bool = True
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Line(NamedTuple):
    """A record in its place.

    Attributes:
        number: Its place, from 0; it is added to the seed, unless the record has a seed of its own.
        record: What the answered record begins with.
        asked: What says what it asks for: most often the record itself.
        error: Why it could not be read; None if it could.
    """

    number: int
    record: Record
    asked: Record
    error: DiffutronError | None = None


class Outcome(NamedTuple):
    """What became of a line.

    Attributes:
        number: Of the line.
        record: The record, answered or failed.
        failed: Whether it failed.
    """

    number: int
    record: dict[str, Any]
    failed: bool


More: TypeAlias = Callable[[bool], "list[Line] | None"]
"""Returns the next window of lines, None at their end. Unless it may wait for one, an empty one is none yet."""


@dataclass(eq=False)
class _Pending:
    """A line whose sequence waits or runs."""

    line: Line
    sequence: Sequence
    tally: Tally = field(default_factory=Tally)

    @property
    def length(self) -> int:
        return self.sequence.canvas.length


def answer(
    model: Diffutron,
    records: Iterable[Record],
    *,
    start: int = 0,
    column: str = PROMPT,
    template: bool = True,
    preset: str | None = None,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Yield each record with its `completion` and `finish_reason`, or with the `error` that it failed with, in order.

    Record i is answered as it would be alone with `seed` + `start` + i, whatever it shares a pass with. A window of
    records is read ahead, and only a bounded number is ever held.

    Args:
        model: Answers them.
        records: Each has a `prompt` or `messages`, and may have `options`; `requested` says what exactly.
        start: The place of the first record in the whole that these are a part of.
        column: The name of the prompt.
        template: As for `Diffutron.generate`.
        preset: As for `Diffutron.generate`.
        **options: Any field of `GenerationConfig`; a record's own options override them.

    Raises:
        OptionError: An option of these is not allowed.
        ProviderError: ONNX Runtime fails.
        BundleError: The graph returned what no denoiser can have predicted.
    """
    model.config(preset, **options)
    terms = Terms(column=column, template=template, preset=preset, options=options)
    lines = (Line(number, record, record) for number, record in enumerate(records, start))
    return (outcome.record for outcome in Answers(model, terms, windows(lines, window_size(model))))


def window_size(model: Diffutron) -> int:
    """Return how many lines are sorted by length at a time: one, where none has company."""
    most = batch_size(model.forward)
    return 1 if most == 1 else most * BATCHES


def windows(lines: Iterator[Line], size: int) -> More:
    """Return a function that returns the next `size` lines, or as many as are left."""
    return lambda _: list(islice(lines, size)) or None


class Answers:
    """Iterates over the outcomes of lines, in their order.

    The next window is read while the last sequences of the one before still run. If one of them takes so long that a
    whole window waits behind it, no other is read.
    """

    def __init__(self, model: Diffutron, terms: Terms, more: More) -> None:
        self._model, self._terms, self._more = model, terms, more
        self._most, self._window = batch_size(model.forward), window_size(model)
        self._waiting: list[_Pending] = []  # the longest last
        self._running: list[_Pending] = []
        self._order: deque[int] = deque()  # of the lines that were read and not yielded
        self._done: dict[int, Outcome] = {}

    def __iter__(self) -> Iterator[Outcome]:
        while self._join() or self._done:
            if self._running:
                self._step()
            while self._order and self._order[0] in self._done:
                yield self._done.pop(self._order.popleft())

    def _join(self) -> bool:
        """Let sequences join the running ones while there is room; return whether any runs."""
        while len(self._running) < self._most and (self._waiting or self._read()):
            if self._waiting:
                self._running.append(self._waiting.pop())
        return bool(self._running)

    def _read(self) -> bool:
        """Read a window, unless one waits to be yielded; return whether there was something to read."""
        if len(self._done) >= self._window:
            return False
        window = self._more(not self._running and not self._done) or []
        for line in window:
            self._order.append(line.number)
            self._begin(line)
        self._waiting.sort(key=lambda pending: pending.length)
        return bool(window)

    def _begin(self, line: Line) -> None:
        if line.error is not None:
            self._fail(line, line.error)
            return
        try:
            self._waiting.append(_Pending(line, self._sequence(line)))
        except (InputError, OptionError) as error:
            self._fail(line, error)

    def _sequence(self, line: Line) -> Sequence:
        terms, (prompt, own) = self._terms, requested(line.asked, self._terms.column)
        return self._model.sequence(
            prompt,
            template=terms.template,
            preset=terms.preset,
            index=0 if "seed" in own else line.number,
            **{**terms.options, **own},
        )

    def _step(self) -> None:
        """Take the running sequences one step further; those that end are done."""
        try:
            steps = self._model.engine.step([pending.sequence for pending in self._running])
        except NumericsError as error:
            self._fail(self._running.pop(error.sequence).line, error)
            return
        for pending, step in zip(self._running, steps, strict=True):
            pending.tally.add(step)
            if step.is_last:
                record = answered(pending.line.record, pending.tally.completion())
                self._done[pending.line.number] = Outcome(pending.line.number, record, failed=False)
        self._running = [pending for pending in self._running if not pending.sequence.finished]

    def _fail(self, line: Line, error: Exception) -> None:
        self._done[line.number] = Outcome(line.number, failed(line.record, error), failed=True)
