"""Answer a request by text: whole, or as it comes."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from diffutron_ort.completing import check_best_of
from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.scoring.regeneration import self_confidences
from diffutron_ort.serve.api.answering import Answering
from diffutron_ort.serve.api.choices import Choices
from diffutron_ort.serve.api.kinds import Ended, Head, Kind
from diffutron_ort.serve.api.parsing import header
from diffutron_ort.serve.api.reply import Reply
from diffutron_ort.serve.api.requests import Asked, Generated
from diffutron_ort.serve.api.streaming import Canvases, Form, Pieces
from diffutron_ort.serve.batching.jobs import Generation, Task
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings


class Generating(Answering[Generated]):
    """Answers the requests of one kind of generation; an ASGI application."""

    def __init__(self, kind: Kind[Generated], service: Service, settings: Settings) -> None:
        super().__init__(kind.request, kind.param, service, settings)
        self._kind = kind

    def _check(self, request: Generated) -> None:
        """Refuse more sequences than the server takes at a time, and a `best_of` without a meaning."""
        most = min(self._settings.max_sequences, self._service.capacity)
        if (count := self._kind.count(request)) > most:
            name = "n" if request.best_of is None else "best_of"
            message = f"{count} sequences, prompts times {name}: at most {most}"
            raise ApiError(400, message, code="invalid_value", param=name)
        if request.written < request.n:
            message = f"best_of={request.written} is less than n={request.n}: write at least as many as you want"
            raise ApiError(400, message, code="invalid_value", param="best_of")
        if request.stream and request.written > request.n:
            message = f"best_of={request.written}: a stream cannot choose among answers; leave out stream or best_of"
            raise ApiError(400, message, code="unsupported_value", param="best_of")

    async def _write(self, asked: Asked[Generated], model: Diffutron, reply: Reply) -> None:
        """Put the sequences of a request into the queue, and write what they come to."""
        request = asked.request
        _check_differ(asked, model)
        sequences = await self._sequences(asked, model)
        job = Generation(sequences, streamed=request.stream or self._kind.logprobs(request) is not None)
        self._service.submit(job)
        reply.headers = header(asked.ignored)
        if self._settings.log_text:
            reply.note(prompt=msgspec.to_builtins(getattr(request, self._kind.param)))
        try:
            await self._tell(asked, model, job, reply)
        finally:
            job.cancel()

    async def _sequences(self, asked: Asked[Generated], model: Diffutron) -> list[sampler.Sequence]:
        """Make the sequences of a request in a thread, which stops between two of them once nobody waits for it."""
        waits = [True]
        made = self._kind.sequences(model, asked, self._settings.allow_tags)
        try:
            return await asyncio.to_thread(lambda: list(takewhile(lambda _: waits[0], made)))
        finally:
            waits[0] = False

    async def _tell(self, asked: Asked[Generated], model: Diffutron, job: Generation, reply: Reply) -> None:
        """Write the answer once it is whole, or as it comes."""
        request, kind, identity = asked.request, self._kind, self._service.identity
        choices = Choices(job, model, kind.logprobs(request))
        head = Head(kind.prefix + uuid.uuid4().hex, int(time.time()), identity.name, identity.fingerprint)
        if request.stream:
            form: Form = Pieces(kind, head, len(job.sequences))
            if request.diffusing:
                form = Canvases(kind, head, model, job.sequences)
            await self._stream(request, job, choices, form, head, reply)
            wanted = choices.in_order()
        else:
            async for index, step in job.steps():
                choices.add(index, step)
            wanted = await self._wanted(request, choices, model)
            await reply.whole(kind.whole(head, wanted, choices.usage(request.written)))
        texts = (one.completion.text for one in wanted)
        self._note_usage(job, choices.usage(request.written), texts, reply)

    async def _wanted(self, request: Generated, choices: Choices, model: Diffutron) -> Sequence[Ended]:
        """Return the choices that are told: all, or those that the model is surest of when it reads them again."""
        ended = choices.in_order()
        if request.written == request.n:
            return ended
        task = Task(self_confidences(model.forward, [one.last for one in ended]))
        self._service.submit(task, taken=True)
        try:
            return choices.surest(await task.result(), request)
        finally:
            task.cancel()

    async def _stream(
        self, request: Generated, job: Generation, choices: Choices, form: Form, head: Head, reply: Reply
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
            await reply.event(self._kind.closing(head, choices.usage(request.written)))
        await reply.end()


def _check_differ(asked: Asked[Generated], model: Diffutron) -> None:
    """Refuse to choose among answers that are all the same."""
    request = asked.request
    if request.written == request.n:
        return
    try:
        check_best_of(request.written, model.config(request.preset, **asked.options))
    except OptionError as error:
        raise ApiError(400, str(error), code="invalid_value", param="best_of") from error
