"""Answer one request: from its body to the last byte of its answer."""

import asyncio
import time
import uuid
from http import HTTPStatus
from itertools import takewhile
from typing import Generic

import msgspec
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from diffutron_ort.errors import ContextError, DiffutronError, InputError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve import logs
from diffutron_ort.serve.api.choices import Choices
from diffutron_ort.serve.api.kinds import Head, Kind
from diffutron_ort.serve.api.reply import Reply, unless_gone
from diffutron_ort.serve.api.requests import Asked, Request, header, parse
from diffutron_ort.serve.api.responses import Usage
from diffutron_ort.serve.api.streaming import Canvases, Form, Pieces
from diffutron_ort.serve.batching.jobs import Generation
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError, failure
from diffutron_ort.serve.settings import Settings


class Answering(Generic[Request]):
    """Answers the requests of one kind; an ASGI application."""

    def __init__(self, kind: Kind[Request], service: Service, settings: Settings) -> None:
        self._kind, self._service, self._settings = kind, service, settings
        self._metrics = service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count how it ended."""
        reply, end = Reply(scope, receive, send), "gone"
        with self._metrics.request_seconds.time():
            try:
                await self._answer(reply)
                end = "ok"
            except ClientDisconnect:
                pass
            except Exception as error:
                refusal = told(error, self._kind.param)
                end = _end(error, refusal)
                if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                    self._log(error, scope)
                await reply.fail(refusal)
            finally:
                self._metrics.requests.labels(end).inc()
                reply.note(end=end)

    def _log(self, error: Exception, scope: Scope) -> None:
        """Log what a client is not told."""
        trace = logs.trace(error, with_message=self._settings.log_text)
        logs.write({"level": "error", "id": scope.get("state", {}).get("request_id"), "trace": trace})

    async def _answer(self, reply: Reply) -> None:
        with self._service.request() as model:
            async with asyncio.timeout(self._settings.deadline):
                body = await HttpRequest(reply.scope, reply.receive).body()
                asked = parse(body, self._kind.request, self._settings.max_steps)
                self._check(asked.request)
                await unless_gone(reply.receive, self._work(asked, model, reply))

    def _check(self, request: Request) -> None:
        """Check what depends on the server."""
        self._service.identity.check(request.model)
        most = min(self._settings.max_sequences, self._service.capacity)
        if (count := self._kind.count(request)) > most:
            message = f"{count} sequences, prompts times n: at most {most}"
            raise ApiError(400, message, code="invalid_value", param="n")

    async def _work(self, asked: Asked[Request], model: Diffutron, reply: Reply) -> None:
        """Put the sequences of a request into the queue, and write what they come to."""
        request = asked.request
        sequences = await self._sequences(asked, model)
        job = Generation(sequences, streamed=request.stream or self._kind.logprobs(request) is not None)
        self._service.submit(job)
        reply.headers = header(asked.ignored)
        if self._settings.log_text:
            reply.note(prompt=msgspec.to_builtins(getattr(request, self._kind.param)))
        try:
            await self._write(asked, model, job, reply)
        finally:
            job.cancel()

    async def _sequences(self, asked: Asked[Request], model: Diffutron) -> list[sampler.Sequence]:
        """Make the sequences of a request in a thread, which stops between two of them once nobody waits for it."""
        waits = [True]
        made = self._kind.sequences(model, asked, self._settings.allow_tags)
        try:
            return await asyncio.to_thread(lambda: list(takewhile(lambda _: waits[0], made)))
        finally:
            waits[0] = False

    async def _write(self, asked: Asked[Request], model: Diffutron, job: Generation, reply: Reply) -> None:
        """Write the answer once it is whole, or as it comes."""
        request, kind, identity = asked.request, self._kind, self._service.identity
        choices = Choices(job, model, kind.logprobs(request))
        head = Head(kind.prefix + uuid.uuid4().hex, int(time.time()), identity.name, identity.fingerprint)
        if request.stream:
            form: Form = Pieces(kind, head, len(job.sequences))
            if request.diffusing:
                form = Canvases(kind, head, model, job.sequences)
            await self._stream(request, job, choices, form, head, reply)
        else:
            async for index, step in job.steps():
                choices.add(index, step)
            await reply.whole(kind.whole(head, choices.in_order(), choices.usage(request.n)))
        self._note(job, choices, choices.usage(request.n), reply)

    async def _stream(
        self, request: Request, job: Generation, choices: Choices, form: Form, head: Head, reply: Reply
    ) -> None:
        """Write the chunks of a stream."""
        options = request.stream_options
        tells_usage = options is not None and options.include_usage
        await reply.begin()
        for chunk in form.before():
            await reply.event(chunk)
        waits_for_text = True
        async for index, step in job.steps():
            if waits_for_text and step.settled:
                waits_for_text = False
                self._metrics.first_text_seconds.observe(time.monotonic() - job.queued)
            for chunk in form.after(index, step, choices.add(index, step)):
                await reply.event(chunk)
        if tells_usage:
            await reply.event(self._kind.closing(head, choices.usage(request.n)))
        await reply.end()

    def _note(self, job: Generation, choices: Choices, usage: Usage, reply: Reply) -> None:
        """Count what was done, and leave it for the access log."""
        self._metrics.tokens.labels("prompt").inc(usage.prompt_tokens)
        self._metrics.tokens.labels("completion").inc(usage.completion_tokens)
        reply.note(
            model=self._service.identity.name,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            queue_ms=round(((job.begun or job.queued) - job.queued) * 1000, 2),
        )
        if self._settings.log_text:
            reply.note(answers=[one.completion.text for one in choices.in_order()])


def _end(error: Exception, refusal: ApiError) -> str:
    """Return how a request has ended, for the metrics."""
    if isinstance(error, TimeoutError):
        return "late"
    is_refused = refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR or refusal.code in ("loading", "draining")
    return "refused" if is_refused else "failed"


def told(error: Exception, param: str) -> ApiError:
    """Return what a client is told of an error; only what its own request has caused is told in full."""
    match error:
        case ApiError():
            return error
        case TimeoutError():
            message = "the answer was not ready by the server's deadline: ask for fewer steps or tokens"
            return ApiError(503, message, code="deadline_exceeded", headers={"x-should-retry": "false"})
        case ContextError():
            # litellm, for one, does not look at the code, and knows the error by these words of OpenAI's.
            message = f"this model's maximum context length is exceeded: {error}"
            return ApiError(400, message, code="context_length_exceeded", param=param)
        case OptionError():
            return ApiError(400, str(error), code="invalid_value")
        case InputError():
            return ApiError(400, str(error), code="invalid_value", param=param)
    if isinstance(error, DiffutronError):
        return ApiError(500, "the model failed on this request", code="model_failure")
    return failure()
