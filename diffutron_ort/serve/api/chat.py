"""POST /v1/chat/completions: messages in, the next message out."""

from collections.abc import Iterator, Sequence

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve.api.kinds import Ended, Head
from diffutron_ort.serve.api.messages import conversation, refuse_tags
from diffutron_ort.serve.api.requests import Asked, ChatRequest
from diffutron_ort.serve.api.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatLogprobs,
    Delta,
    Said,
    Usage,
)


class Chat:
    """Chats."""

    request = ChatRequest
    prefix = "chatcmpl-"
    param = "messages"

    def sequences(self, model: Diffutron, asked: Asked[ChatRequest], allow_tags: bool) -> Iterator[sampler.Sequence]:
        """Yield the sequences that answer the messages, each with a seed of its own."""
        request, options = asked.request, asked.options
        messages = chat_messages(request, model, allow_tags)
        for index in range(request.written):
            yield model.sequence(messages, preset=request.preset, index=index, **options)

    def count(self, request: ChatRequest) -> int:
        """Return the number of answers that are written."""
        return request.written

    def logprobs(self, request: ChatRequest) -> int | None:
        """Return `top_logprobs`, if log-probabilities are wanted."""
        return (request.top_logprobs or 0) if request.logprobs else None

    def whole(self, head: Head, choices: Sequence[Ended], usage: Usage) -> ChatCompletion:
        """Return the whole answer."""
        found = [
            ChatChoice(one.index, Said(one.completion.text), one.finish_reason, _logprobs(one), one.figures)
            for one in choices
        ]
        return ChatCompletion(*head, choices=found, usage=usage)

    def opening(self, head: Head, index: int) -> ChatChunk:
        """Return the chunk that says whose message begins."""
        return ChatChunk(*head, choices=[ChatChunkChoice(index, Delta(role="assistant", content=""))])

    def chunk(self, head: Head, index: int, text: str, ended: Ended | None = None) -> ChatChunk:
        """Return a chunk with text of one choice; with `ended`, its last."""
        choice = ChatChunkChoice(index, Delta(content=text))
        if ended is not None:
            choice.finish_reason, choice.logprobs = ended.finish_reason, _logprobs(ended)
        return ChatChunk(*head, choices=[choice])

    def closing(self, head: Head, usage: Usage) -> ChatChunk:
        """Return the chunk that tells the usage."""
        return ChatChunk(*head, choices=[], usage=usage)


def chat_messages(request: ChatRequest, model: Diffutron, allow_tags: bool) -> list[dict[str, str]]:
    """Return the messages of a request, as the model takes them.

    Raises:
        ApiError: A message has a part that is no text, or a tag of the chat template.
    """
    messages = conversation(request.messages, "messages")
    if not allow_tags:
        contents = {f"messages[{place}].content": one["content"] for place, one in enumerate(messages)}
        refuse_tags(contents, model.bundle.chat_template)
    return messages


def _logprobs(ended: Ended) -> ChatLogprobs | None:
    return ended.record.chat(ended.last, ended.tokenizer, ended.most) if ended.record else None
