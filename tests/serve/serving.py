"""A server within the test's own process: no socket, and no thread but the engine's."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx

from diffutron_ort.serve.app import make_app
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.settings import Settings

QUESTION = "On iki artı beş kaç eder?"
CHAT = {"messages": [{"role": "user", "content": QUESTION}]}
SECONDS = 60.0  # for whatever is waited for: a busy machine may stand still for a while


@asynccontextmanager
async def serving(model, **settings):
    """Yield a client of a server that answers with `model`; its `service` is the server's."""
    given = Settings(**settings)
    service = Service(given, lambda: model)
    app = make_app(service, given)
    service.start()
    await until(lambda: service.state != "loading")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        client.service = service
        try:
            yield client
        finally:
            service.close()


async def until(is_so):
    """Wait until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not is_so():
            await asyncio.sleep(0.002)


def gauge(client, name):
    """Return how many sequences are `waiting` or `running` on a client's server."""
    lines = client.service.metrics.text().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"diffutron_{name}_sequences "))


def post(model, path, body, **settings):
    """Return the answer to one request."""

    async def answered():
        async with serving(model, **settings) as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content, headers={"content-type": "application/json"})

    return asyncio.run(answered())


def events(response):
    """Return the events of a stream; the last of them must be `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
