"""POST /v1/chat/completions: messages in, the next message out."""

import re
from collections.abc import Iterator, Mapping, Sequence

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve.api.kinds import Ended, Head
from diffutron_ort.serve.api.requests import Asked, ChatRequest, Message
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
from diffutron_ort.serve.errors import ApiError

TAG = re.compile(r"\[/?\w+\]")
ROLES: Mapping[str, str] = {"developer": "system"}


class Chat:
    """Chats."""

    request = ChatRequest
    prefix = "chatcmpl-"
    param = "messages"

    def sequences(self, model: Diffutron, asked: Asked[ChatRequest], allow_tags: bool) -> Iterator[sampler.Sequence]:
        """Yield the sequences that answer the messages, each with a seed of its own."""
        request, options = asked.request, asked.options
        messages = [
            {"role": ROLES.get(message.role, message.role), "content": _content(message, place)}
            for place, message in enumerate(request.messages)
        ]
        if not allow_tags:
            _refuse_tags(messages, model.bundle.chat_template)
        for index in range(request.n):
            yield model.sequence(messages, preset=request.preset, index=index, **options)

    def count(self, request: ChatRequest) -> int:
        """Return the number of choices."""
        return request.n

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


def _content(message: Message, place: int) -> str:
    """Return the text of a message."""
    if isinstance(message.content, str):
        return message.content
    for number, part in enumerate(message.content):
        if part.type != "text":
            where = f"messages[{place}].content[{number}]"
            raise ApiError(400, f"{where} has type {part.type!r}: only text is supported", param=where)
    return "".join(part.text for part in message.content)


def _refuse_tags(messages: Sequence[Mapping[str, str]], template: Mapping[str, str]) -> None:
    """Refuse text that holds tags of the chat template: the model would take it for another role's."""
    tags = {tag for text in template.values() for tag in TAG.findall(text)}
    for place, message in enumerate(messages):
        for tag in TAG.findall(message["content"]):
            if tag in tags:
                text = f"messages[{place}].content holds {tag}, a tag of the chat template: take it out"
                raise ApiError(400, text, code="template_tags", param=f"messages[{place}].content")


def _logprobs(ended: Ended) -> ChatLogprobs | None:
    return ended.record.chat(ended.last, ended.tokenizer, ended.most) if ended.record else None
