"""Answer a request by text: whole, or as it comes."""

import asyncio
import time
import uuid
from itertools import takewhile

import msgspec

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve.api.answering import Answering
from diffutron_ort.serve.api.choices import Choices
from diffutron_ort.serve.api.kinds import Head, Kind
from diffutron_ort.serve.api.parsing import header
from diffutron_ort.serve.api.reply import Reply
from diffutron_ort.serve.api.requests import Asked, Generated
from diffutron_ort.serve.api.streaming import Canvases, Form, Pieces
from diffutron_ort.serve.batching.jobs import Generation
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings


class Generating(Answering[Generated]):
    """Answers the requests of one kind of generation; an ASGI application."""

    def __init__(self, kind: Kind[Generated], service: Service, settings: Settings) -> None:
        super().__init__(kind.request, kind.param, service, settings)
        self._kind = kind

    def _check(self, request: Generated) -> None:
        """Refuse more sequences than the server takes at a time."""
        most = min(self._settings.max_sequences, self._service.capacity)
        if (count := self._kind.count(request)) > most:
            message = f"{count} sequences, prompts times n: at most {most}"
            raise ApiError(400, message, code="invalid_value", param="n")

    async def _write(self, asked: Asked[Generated], model: Diffutron, reply: Reply) -> None:
        """Put the sequences of a request into the queue, and write what they come to."""
        request = asked.request
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
        else:
            async for index, step in job.steps():
                choices.add(index, step)
            await reply.whole(kind.whole(head, choices.in_order(), choices.usage(request.n)))
        texts = (one.completion.text for one in choices.in_order())
        self._note_usage(job, choices.usage(request.n), texts, reply)

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
            await reply.event(self._kind.closing(head, choices.usage(request.n)))
        await reply.end()
