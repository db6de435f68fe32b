"""Answer one request: from its body to the last byte of its answer."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Generic

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from diffutron_ort.errors import ContextError, DiffutronError, InputError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.serve import logs
from diffutron_ort.serve.api.parsing import parse
from diffutron_ort.serve.api.reply import Reply, unless_gone
from diffutron_ort.serve.api.requests import Asked, Request
from diffutron_ort.serve.api.responses import Usage
from diffutron_ort.serve.batching.jobs import Job
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError, failure
from diffutron_ort.serve.settings import Settings


class Answering(ABC, Generic[Request]):
    """Answers the requests of one path; an ASGI application."""

    def __init__(self, request: type[Request], param: str, service: Service, settings: Settings) -> None:
        """Set up the application.

        Args:
            request: What a body holds.
            param: The field with the text, for errors.
            service: Has the model.
            settings: Its bounds.
        """
        self._request, self._param = request, param
        self._service, self._settings, self._metrics = service, settings, service.metrics

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
                refusal = told(error, self._param)
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
                asked = parse(body, self._request, self._settings.max_steps)
                self._service.identity.check(asked.request.model)
                self._check(asked.request)
                await unless_gone(reply.receive, self._write(asked, model, reply))

    def _check(self, request: Request) -> None:
        """Refuse a request that asks for more than the server's settings allow."""

    def _note_usage(self, job: Job[Any], usage: Usage, texts: Iterable[str], reply: Reply) -> None:
        """Count the tokens of an answer, and leave them for the access log; the texts, if it may hold them."""
        self._metrics.tokens.labels("prompt").inc(usage.prompt_tokens)
        self._metrics.tokens.labels("completion").inc(usage.completion_tokens)
        reply.note(
            model=self._service.identity.name,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            queue_ms=round(((job.begun or job.queued) - job.queued) * 1000, 2),
        )
        if self._settings.log_text and (answers := list(texts)):
            reply.note(answers=answers)

    @abstractmethod
    async def _write(self, asked: Asked[Request], model: Diffutron, reply: Reply) -> None:
        """Have the model do what is asked for, and write what it comes to."""


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
