"""What is measured, each for less than half a minute."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort import Diffutron
from serving.clients import Client, Load, load

sys.path.append(str(Path(__file__).parents[2]))  # a server in a process of its own is in the tests

from tests.serve.running import Running, running

CLIENTS = (1, 4, 16, 64)
MANY = 16
QUESTIONS = (
    "On iki artı beş kaç eder?",
    "Yedi eksi üç kaç eder?",
    "Sırala: dokuz, iki, beş",
    "Pazartesiden sonra ne gelir?",
)
FAST = {"preset": "fast", "max_tokens": 32, "steps": 16}
EXACT = {"max_tokens": 32, "steps": 8, "early_end": False}
SHORT = {"max_tokens": 8, "steps": 2}
LEAST = {"max_tokens": 1, "steps": 1}


class Setting(NamedTuple):
    """A server, and what it is asked.

    Attributes:
        model: Its folder; None is nano.
        variant: Of the bundle.
        options: Of each request.
        batch: Sequences that may share a pass.
    """

    model: Path | None
    variant: str
    options: Mapping[str, Any]
    batch: int

    def arguments(self) -> list[str]:
        """Return the arguments of the server."""
        model = [] if self.model is None else [str(self.model)]
        return [*model, "--variant", self.variant, "--max-batch", str(self.batch), "--max-queue", "1000"]

    def bodies(self) -> list[dict[str, Any]]:
        """Return what clients ask."""
        return [{"messages": [{"role": "user", "content": text}], **self.options} for text in QUESTIONS]


class Overhead(NamedTuple):
    """What a request costs over the library's call, in seconds at the median.

    Attributes:
        library: Of the call.
        request: Of the request for the same.
    """

    library: float
    request: float


class Memory(NamedTuple):
    """What the server's process holds after some requests.

    Attributes:
        requests: Their number.
        size: Resident, in bytes.
    """

    requests: int
    size: int


def loads(setting: Setting, clients: tuple[int, ...], seconds: float) -> list[Load]:
    """Return what numbers of clients see of one server."""
    with running(*setting.arguments()) as server:
        load(server.port, setting.bodies(), 2, 1)  # the first passes allocate memory
        return [load(server.port, setting.bodies(), number, seconds) for number in clients]


def alone(setting: Setting, seconds: float) -> float:
    """Return the answers a second of the library's own call, one after another."""
    model = Diffutron.from_pretrained(setting.model, variant=setting.variant, spin=False)
    options = {"max_new_tokens" if name == "max_tokens" else name: value for name, value in setting.options.items()}
    model.generate(QUESTIONS[0], **options)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        model.generate(QUESTIONS[count % len(QUESTIONS)], **options)
        count += 1
    return count / (time.perf_counter() - begun)


def overhead(count: int) -> Overhead:
    """Return what a small request costs, asked in turns with the library's call for the same."""
    model = Diffutron.from_pretrained(threads=1, spin=False)
    library, request = [], []
    body = Setting(None, "fp32", SHORT, 1).bodies()[0]
    with running("--threads", "1") as server, closing(Client(server.port)) as client:
        for _ in range(count):
            begun = time.perf_counter()
            expected = model.generate(QUESTIONS[0], max_new_tokens=SHORT["max_tokens"], steps=SHORT["steps"])
            between = time.perf_counter()
            found = client.answer(body)
            request.append(time.perf_counter() - between)
            library.append(between - begun)
            assert found == expected, "the server gives the library's text"
    return Overhead(statistics.median(library), statistics.median(request))


def memory(most: int) -> list[Memory]:
    """Return what nano's server holds after each tenth of so many requests."""
    with running() as server, closing(Client(server.port)) as client:
        return list(_memory(server, client, most))


def _memory(server: Running, client: Client, most: int) -> Iterator[Memory]:
    bodies = Setting(None, "fp32", LEAST, 1).bodies()
    for number in range(1, most + 1):
        client.answer(bodies[number % len(bodies)])
        if number % (most // 10) == 0:
            yield Memory(number, server.vitals().memory)
