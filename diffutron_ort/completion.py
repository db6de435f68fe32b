"""The result of a generation: the answer, why it ended, and what it took."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from diffutron_ort.errors import InputError
from diffutron_ort.sampler.sequence import LENGTH, Step
from diffutron_ort.types import Ids


class Passes(NamedTuple):
    """The passes of a generation. Each counts once, though guidance runs the model twice.

    Attributes:
        full: Passes that computed every token.
        cached: Passes that computed some, against the keys and values of the others.
        computed: Tokens computed in all of them.
        predicted: Tokens predicted in all of them.
    """

    full: int
    cached: int
    computed: int
    predicted: int


@dataclass(frozen=True, eq=False)
class Completion:
    """An answer and its statistics.

    Attributes:
        text: The answer.
        ids: int64 [max_new_tokens], the generated span: the answer's tokens, then whatever follows its end (a stop
            sequence, `<pad>`, more text) and masks that no step committed.
        finish_reason: `stop` if a stop sequence, `<pad>` or `<eos>` ended the answer; `length` if nothing did.
        prompt_tokens: Tokens of the prompt, chat template included.
        completion_tokens: Tokens of the answer.
        steps: Denoising steps.
        passes: The passes of the model that they took.
        mean_confidence: Mean probability of the answer's tokens when they were committed; None if it has none.
        least_confidence: The least of these probabilities; None if it has none.
        masks_left: Masks on the canvas that no step filled.
        self_confidence: The geometric mean of the probabilities of the answer's tokens given the whole answer, from one
            more pass (DiSE, arXiv:2603.02760); None if it was not asked for, or if the answer has no token.
    """

    text: str
    ids: Ids = field(repr=False)
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    steps: int
    passes: Passes
    mean_confidence: float | None
    least_confidence: float | None
    masks_left: int
    self_confidence: float | None = None

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Completion":
        """Return the completion of a sequence, given all its steps.

        Raises:
            InputError: There is no step.
            DiffutronError: As for the steps.
        """
        tally = Tally()
        for step in steps:
            tally.add(step)
        if tally.last is None:
            raise InputError("there is no step to make a completion of: give all the steps of a stream")
        return tally.completion()

    def __str__(self) -> str:
        """Return the answer."""
        return self.text

    def _repr_html_(self) -> str:
        """Return the answer and its figures, for a notebook."""
        from html import escape  # a start does not need it

        sure = "" if self.mean_confidence is None else f" · confidence {self.mean_confidence:.3f}"
        figures = (
            f"{self.finish_reason} · {self.prompt_tokens} + {self.completion_tokens} tokens · {self.steps} steps "
            f"({self.passes.full} full, {self.passes.cached} cached passes){sure}"
        )
        return f'<div style="white-space: pre-wrap">{escape(self.text)}</div><small>{figures}</small>'


class Tally:
    """Counts the steps of one sequence, of which it keeps the last.

    Attributes:
        last: The last step; None if there was none.
    """

    def __init__(self) -> None:
        self.last: Step | None = None
        self._steps = self._full = self._computed = self._predicted = 0
        self._confidence: dict[int, float] = {}  # by position

    def add(self, step: Step) -> None:
        """Count a step; steps come in order."""
        self.last = step
        self._steps += 1
        self._full += step.is_full
        self._computed += step.num_computed
        self._predicted += step.num_predicted
        self._confidence |= zip(step.positions.tolist(), step.confidence.tolist(), strict=True)

    @property
    def final(self) -> Step:
        """The last step, where there was one."""
        assert self.last is not None, "a canvas with masks takes a step"
        return self.last

    def completion(self, self_confidence: float | None = None) -> Completion:
        """Return the completion of the sequence, given how sure the model is of it if that was asked for."""
        last = self.final
        committed = self._confidence
        sure = [committed[position] for position in last.answer.tolist() if position in committed]
        return Completion(
            text=last.text,
            ids=last.ids[last.start : last.end],
            finish_reason=last.finish_reason or LENGTH,
            prompt_tokens=last.start,
            completion_tokens=last.answer.size,
            steps=self._steps,
            passes=Passes(self._full, self._steps - self._full, self._computed, self._predicted),
            mean_confidence=sum(sure) / len(sure) if sure else None,
            least_confidence=min(sure, default=None),
            masks_left=last.masks_left,
            self_confidence=self_confidence,
        )
