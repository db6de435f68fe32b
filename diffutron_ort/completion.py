"""The result of a generation: the answer, why it ended, and what it took."""

from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

from diffutron_ort.sampler.sequence import Step
from diffutron_ort.types import Ids

STOP, LENGTH = "stop", "length"


class Passes(NamedTuple):
    """The passes of a generation; under guidance there are two for each that is counted here.

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
    """An answer, and how it came about.

    Attributes:
        text: The answer.
        ids: int64 [max_new_tokens], the generated span: the answer's tokens and, after its end, `<pad>` or masks.
        finish_reason: `stop` if a stop sequence, `<pad>` or `<eos>` ended the answer; `length` if nothing did.
        prompt_tokens: Tokens of the prompt, chat template included.
        completion_tokens: Tokens of the answer.
        steps: Denoising steps.
        passes: The passes of the model that they took.
        mean_confidence: Mean probability of the answer's tokens when they were committed; None if it has none.
        least_confidence: The least of these probabilities; None if it has none.
        masks_left: Masks in the generated span that no step committed.
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
    masks_left: int = 0

    def __str__(self) -> str:
        """Return the answer."""
        return self.text

    def _repr_html_(self) -> str:
        """Return the answer and its figures, for a notebook."""
        sure = "" if self.mean_confidence is None else f" · confidence {self.mean_confidence:.3f}"
        figures = (
            f"{self.finish_reason} · {self.prompt_tokens} + {self.completion_tokens} tokens · {self.steps} steps "
            f"({self.passes.full} full, {self.passes.cached} cached passes){sure}"
        )
        return f'<div style="white-space: pre-wrap">{escape(self.text)}</div><small>{figures}</small>'


class Tally:
    """Counts the steps of one sequence."""

    def __init__(self) -> None:
        self.last: Step | None = None
        self._full = self._computed = self._predicted = 0
        self._confidence = np.zeros(0)

    def add(self, step: Step) -> None:
        """Count a step; steps come in order."""
        if self.last is None:
            self._confidence = np.full(len(step.ids), np.nan)
        self.last = step
        self._full += step.is_full
        self._computed += step.num_computed
        self._predicted += step.num_predicted
        self._confidence[step.positions] = step.confidence

    def completion(self, tokens: int, finish_reason: str, mask: int) -> Completion:
        """Return the result of the steps.

        Args:
            tokens: How many of the generated tokens are the answer's; masks among them do not count.
            finish_reason: Why it ended.
            mask: The id of `<mask>`.
        """
        last = self.last
        assert last is not None, "a sequence with masks takes a step"
        ids, sure = last.ids[last.start :], self._confidence[last.start :]
        answer = sure[ids != mask][:tokens]
        return Completion(
            text=last.text,
            ids=ids,
            finish_reason=finish_reason,
            prompt_tokens=last.start,
            completion_tokens=tokens,
            steps=last.index + 1,
            passes=Passes(self._full, last.index + 1 - self._full, self._computed, self._predicted),
            mean_confidence=float(answer.mean()) if answer.size else None,
            least_confidence=float(answer.min()) if answer.size else None,
            masks_left=int((ids == mask).sum()),
        )
