"""Answer a request by figures, which a work of several passes comes to."""

import asyncio
import time
import uuid
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from diffutron_ort.model import Diffutron
from diffutron_ort.prompts import SUSPICIOUS
from diffutron_ort.scoring.work import Work
from diffutron_ort.serve.api.answering import Answering
from diffutron_ort.serve.api.kinds import Head
from diffutron_ort.serve.api.parsing import header
from diffutron_ort.serve.api.reply import Reply
from diffutron_ort.serve.api.requests import Asked, Request
from diffutron_ort.serve.api.responses import Usage
from diffutron_ort.serve.batching.jobs import Task
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings
from diffutron_ort.text.chat_template import answer_end

Result = TypeVar("Result")


class Told(NamedTuple):
    """An answer.

    Attributes:
        content: What the client gets.
        tokens: The number that the model read.
    """

    content: msgspec.Struct
    tokens: int


class Judgement(Protocol[Request, Result]):
    """A kind of request for figures.

    Attributes:
        request: What its body holds.
        prefix: What the ids of its answers begin with.
        param: The field with the text, for errors.
    """

    request: type[Request]
    prefix: str
    param: str

    def work(self, model: Diffutron, asked: Asked[Request], settings: Settings) -> Work[Result]:
        """Return the work that answers a request.

        Raises:
            ApiError: It would take too many passes.
            InputError: A text is not what it should be.
            OptionError: Options contradict each other.
        """

    def told(self, model: Diffutron, asked: Asked[Request], result: Result, head: Head) -> Told:
        """Return the answer, given what the work has come to."""


class Judging(Answering[Request], Generic[Request, Result]):
    """Answers the requests of one kind for figures; an ASGI application."""

    def __init__(self, kind: Judgement[Request, Result], service: Service, settings: Settings) -> None:
        super().__init__(kind.request, kind.param, service, settings)
        self._kind = kind

    async def _write(self, asked: Asked[Request], model: Diffutron, reply: Reply) -> None:
        """Put the work of a request into the queue, and write what it comes to."""
        task = Task(await asyncio.to_thread(self._kind.work, model, asked, self._settings))
        self._service.submit(task)
        reply.headers = header(asked.ignored)
        if self._settings.log_text:
            reply.note(prompt=msgspec.to_builtins(asked.request))
        try:
            result = await task.result()
        finally:
            task.cancel()
        identity = self._service.identity
        head = Head(self._kind.prefix + uuid.uuid4().hex, int(time.time()), identity.name, identity.fingerprint)
        told = await asyncio.to_thread(self._kind.told, model, asked, result, head)
        await reply.whole(told.content)
        self._note_usage(task, Usage(told.tokens, 0, told.tokens), (), reply)


def check_passes(passes: int, settings: Settings, param: str) -> None:
    """Refuse a request that can take more passes of the model than the settings allow.

    Raises:
        ApiError: It can.
    """
    if passes > settings.max_passes:
        message = f"this can take {passes} passes of the model: at most {settings.max_passes}; ask for less at a time"
        raise ApiError(400, message, code="too_many_passes", param=param)


def least_tokens(model: Diffutron, text: str) -> int:
    """Return a lower bound for the tokens of a text, without encoding it; 0 for one that may fit the context."""
    is_long = len(text) > SUSPICIOUS * model.bundle.context_length
    return model.tokenizer.least_tokens(len(text)) if is_long else 0


def end_tokens(model: Diffutron) -> int:
    """Return the number of tokens that the chat template puts after an answer."""
    return len(model.tokenizer.encode(answer_end(model.bundle.chat_template)))


def token_count(model: Diffutron, text: str) -> int:
    """Return the number of tokens of a text; a lower bound for one that is far too long for the model's context."""
    return least_tokens(model, text) or len(model.tokenizer.encode(text))
