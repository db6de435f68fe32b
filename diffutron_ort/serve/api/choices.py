"""The choices of one request, from the steps of their sequences."""

from collections.abc import Sequence
from dataclasses import replace

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.serve.api.kinds import Ended
from diffutron_ort.serve.api.logprobs import Record
from diffutron_ort.serve.api.requests import Common
from diffutron_ort.serve.api.responses import Usage
from diffutron_ort.serve.batching.jobs import Generation


class Choices:
    """Collects the choices of one request as they end.

    Attributes:
        ended: By their order of ending.
    """

    def __init__(self, job: Generation, model: Diffutron, most: int | None) -> None:
        """Set up the collection.

        Args:
            job: Whose sequences they are.
            model: That answers.
            most: How many of the best tokens are wanted for each token; None without log-probabilities.
        """
        self._job, self._tokenizer, self._most = job, model.tokenizer, most or 0
        self._records = None if most is None else [Record() for _ in job.sequences]
        self.ended: list[Ended] = []

    def add(self, index: int, step: Step) -> Ended | None:
        """Add a step, and return the choice if it was its last."""
        record = self._records[index] if self._records else None
        if record is not None:
            record.add(step)
        if not step.is_last:
            return None
        self.ended.append(Ended(index, self._job.completion(index), step, record, self._most, self._tokenizer))
        return self.ended[-1]

    def in_order(self) -> Sequence[Ended]:
        """Return those that have ended, by their numbers."""
        return sorted(self.ended, key=lambda one: one.index)

    def surest(self, confidences: Sequence[float | None], request: Common) -> Sequence[Ended]:
        """Return those of each prompt that the model is surest of, the surest first, with numbers of their own.

        Args:
            confidences: How sure it is of each, by their numbers; None of an answer without a token.
            request: How many of how many are wanted.
        """
        kept: list[Ended] = []
        order, many = self.in_order(), request.written
        for begin in range(0, len(order), many):
            sure = sorted(range(begin, begin + many), key=lambda i: -(confidences[i] or 0.0))
            kept += [order[i] for i in sure[: request.n]]
        return [replace(one, index=index) for index, one in enumerate(kept)]

    def usage(self, written: int) -> Usage:
        """Return the tokens of the request, which has so many answers to each of its prompts."""
        sequences = self._job.sequences[::written]
        prompt = sum(one.initial.length - len(one.initial.generated) for one in sequences)
        completion = sum(one.completion.completion_tokens for one in self.ended)
        return Usage(prompt, completion, prompt + completion)
