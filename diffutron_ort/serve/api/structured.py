"""POST /v1/chat/completions, and answers there that keep to a JSON Schema: a template whose slots are filled."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from statistics import fmean

import msgspec

from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.serve.api.chat import Chat, chat_messages
from diffutron_ort.serve.api.generating import Generating
from diffutron_ort.serve.api.judging import check_passes
from diffutron_ort.serve.api.kinds import Head
from diffutron_ort.serve.api.parsing import header
from diffutron_ort.serve.api.reply import Reply
from diffutron_ort.serve.api.requests import Asked, ChatRequest, SchemaFormat
from diffutron_ort.serve.api.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    Delta,
    Figures,
    Said,
    Usage,
)
from diffutron_ort.serve.batching.jobs import Task
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings
from diffutron_ort.slots.filling import Filled, Filling
from diffutron_ort.slots.schema import from_schema
from diffutron_ort.templates import MEANINGFUL

PLACE = "response_format.json_schema.schema"


class Chats(Generating[ChatRequest]):
    """Answers chats, as text or as JSON; an ASGI application."""

    def __init__(self, service: Service, settings: Settings) -> None:
        super().__init__(Chat(), service, settings)

    async def _write(self, asked: Asked[ChatRequest], model: Diffutron, reply: Reply) -> None:
        if isinstance(asked.request.response_format, SchemaFormat):
            await self._write_json(asked, asked.request.response_format, model, reply)
        else:
            await super()._write(asked, model, reply)

    async def _write_json(
        self, asked: Asked[ChatRequest], wanted: SchemaFormat, model: Diffutron, reply: Reply
    ) -> None:
        """Put the work of filling a template into the queue, and write what it comes to."""
        request = asked.request
        _check(request)
        task = Task(await asyncio.to_thread(self._filling, asked, wanted, model))
        self._service.submit(task)
        reply.headers = header([*asked.ignored, *sorted(asked.options.keys() - MEANINGFUL)])
        if self._settings.log_text:
            reply.note(prompt=msgspec.to_builtins(request.messages))
        try:
            found = await task.result()
        finally:
            task.cancel()
        identity = self._service.identity
        head = Head(self._kind.prefix + uuid.uuid4().hex, int(time.time()), identity.name, identity.fingerprint)
        if request.stream:
            await self._stream_whole(request, head, found, reply)
        else:
            choices = [_choice(index, one) for index, one in enumerate(found)]
            await reply.whole(ChatCompletion(*head, choices=choices, usage=_usage(found)))
        self._note_usage(task, _usage(found), (one.text for one in found), reply)

    def _filling(self, asked: Asked[ChatRequest], wanted: SchemaFormat, model: Diffutron) -> Work[list[Filled]]:
        """Return the work that makes the answers."""
        request = asked.request
        messages = chat_messages(request, model, self._settings.allow_tags)
        options = {name: value for name, value in asked.options.items() if name in MEANINGFUL}
        config = model.config(request.preset, **options)

        def made(index: int) -> Filling:
            seeded = config.replace(seed=(config.seed + index) % 2**64)
            return model.templates.filling(template, bounds, messages, seeded)

        try:
            template, bounds = from_schema(wanted.json_schema.schema)
            first = made(0)
            passes = request.n * first.most_passes(model.forward.batch_invariant)
            check_passes(passes, self._settings, PLACE)  # before the others are made
            fillings = [first, *map(made, range(1, request.n))]
        except OptionError as error:
            raise ApiError(400, str(error), code="unsupported_value", param=PLACE) from error
        return _all(fillings, model)

    async def _stream_whole(self, request: ChatRequest, head: Head, found: Sequence[Filled], reply: Reply) -> None:
        """Write each answer as one piece."""
        await reply.begin()
        for index, one in enumerate(found):
            await reply.event(self._kind.opening(head, index))
            await reply.event(self._kind.chunk(head, index, one.text))
            await reply.event(ChatChunk(*head, choices=[ChatChunkChoice(index, Delta(content=""), "stop")]))
        if request.stream_options is not None and request.stream_options.include_usage:
            await reply.event(self._kind.closing(head, _usage(found)))
        await reply.end()


def _check(request: ChatRequest) -> None:
    """Refuse what has no meaning for an answer by a schema."""
    for name in ("logprobs", "diffusing"):
        if getattr(request, name):
            message = f"{name}: an answer that keeps to a json_schema has none; leave one of them out"
            raise ApiError(400, message, code="unsupported_value", param=name)
    if request.written > request.n:
        message = "best_of: an answer that keeps to a json_schema is not chosen among several; leave one of them out"
        raise ApiError(400, message, code="unsupported_value", param="best_of")


def _all(fillings: Sequence[Filling], model: Diffutron) -> Work[list[Filled]]:
    """Fill one template after the other."""
    found = []
    for number, filling in enumerate(fillings):
        work = filling.work(model.forward)
        found.append((yield from part(work, number / len(fillings), (number + 1) / len(fillings))))
    return found


def _choice(index: int, filled: Filled) -> ChatChoice:
    """Return an answer; its confidences are those of its values."""
    sure = list(filled.probabilities.values())
    mean = fmean(sure) if sure else None
    figures = Figures(filled.passes, filled.passes, 0, 0, mean, min(sure, default=None))
    return ChatChoice(index, Said(filled.text), "stop", None, figures)


def _usage(found: Sequence[Filled]) -> Usage:
    prompt, completion = found[0].prompt_tokens, sum(one.completion_tokens for one in found)
    return Usage(prompt, completion, prompt + completion)
