"""POST /v1/completions: raw text in, what comes after it, or between it and a suffix, out."""

from collections.abc import Iterator, Sequence
from typing import Any

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve.api.kinds import Ended, Head
from diffutron_ort.serve.api.requests import Asked, CompletionRequest
from diffutron_ort.serve.api.responses import (
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    CompletionLogprobs,
    TextCompletion,
    Usage,
)
from diffutron_ort.serve.errors import ApiError

Raw = str | list[int]


class Completions:
    """Completions of raw text."""

    request = CompletionRequest
    prefix = "cmpl-"
    param = "prompt"

    def sequences(
        self,
        model: Diffutron,
        asked: Asked[CompletionRequest],
        allow_tags: bool,  # noqa: ARG002 - raw text may hold them
    ) -> Iterator[sampler.Sequence]:
        """Yield the sequences of all prompts: answer j of prompt i has the seed + i n + j, or with `best_of` for n."""
        request, options = asked.request, asked.options
        prompts = [prompt for prompt in _prompts(request.prompt) for _ in range(request.written)]
        for index, prompt in enumerate(prompts):
            yield model.raw_sequence(prompt, request.suffix or "", preset=request.preset, index=index, **options)

    def count(self, request: CompletionRequest) -> int:
        """Return the number of prompts times that of answers that are written for each."""
        return len(_prompts(request.prompt)) * request.written

    def logprobs(self, request: CompletionRequest) -> int | None:
        """Return how many of the best tokens are wanted."""
        return request.logprobs

    def whole(self, head: Head, choices: Sequence[Ended], usage: Usage) -> TextCompletion:
        """Return all completions."""
        found = [
            CompletionChoice(one.index, one.completion.text, one.finish_reason, _logprobs(one), one.figures)
            for one in choices
        ]
        return TextCompletion(*head, choices=found, usage=usage)

    def opening(self, head: Head, index: int) -> CompletionChunk:
        """Return a chunk without text."""
        return self.chunk(head, index, "")

    def chunk(self, head: Head, index: int, text: str, ended: Ended | None = None) -> CompletionChunk:
        """Return a chunk with text of one completion; with `ended`, its last."""
        choice = CompletionChunkChoice(index, text)
        if ended is not None:
            choice.finish_reason, choice.logprobs = ended.finish_reason, _logprobs(ended)
        return CompletionChunk(*head, choices=[choice])

    def closing(self, head: Head, usage: Usage) -> CompletionChunk:
        """Return the chunk that tells the usage."""
        return CompletionChunk(*head, choices=[], usage=usage)


def _prompts(given: str | list[Any]) -> list[Raw]:
    """Return the prompts of a request as a list.

    Raises:
        ApiError: A list mixes token ids with texts.
    """
    if isinstance(given, str):
        return [given]
    if all(isinstance(item, int) for item in given):
        return [given]
    if any(isinstance(item, int) for item in given):
        raise ApiError(400, "prompt mixes token ids and texts: give a list of one of these", param="prompt")
    return given


def _logprobs(ended: Ended) -> CompletionLogprobs | None:
    return ended.record.completion(ended.last, ended.tokenizer, ended.most) if ended.record else None
