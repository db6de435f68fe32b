"""Clients that ask over and over on connections of their own, and how long they waited."""

import json
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, NamedTuple

PATH = "/v1/chat/completions"
SECONDS = 300.0  # for an answer


class Times(NamedTuple):
    """How long a client waited for one answer, in seconds.

    Attributes:
        first: To the first text.
        whole: To the end.
    """

    first: float
    whole: float


class Load(NamedTuple):
    """What a server did for a number of clients at once.

    Attributes:
        clients: Their number.
        rate: Answers a second.
        median: Seconds for an answer.
        slow: Seconds that 19 of 20 answers took at most.
        first: Median seconds to the first text.
    """

    clients: int
    rate: float
    median: float
    slow: float
    first: float


class Client:
    """A client with a connection that it keeps."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self._connection.connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, body: Mapping[str, Any]) -> Times:
        """Ask for a stream, and read it."""
        begun, first = time.perf_counter(), 0.0
        response = self._post({**body, "stream": True})
        while line := response.readline():
            if not first and b'"content":"' in line and b'"content":""' not in line:
                first = time.perf_counter() - begun
        whole = time.perf_counter() - begun
        return Times(first or whole, whole)

    def answer(self, body: Mapping[str, Any]) -> str:
        """Ask for a whole answer, and return its text."""
        return str(json.load(self._post(body))["choices"][0]["message"]["content"])

    def _post(self, body: Mapping[str, Any]) -> Any:
        self._connection.request("POST", PATH, json.dumps(body), {"content-type": "application/json"})
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()[:500]!r}")
        return response


def load(port: int, bodies: Sequence[Mapping[str, Any]], clients: int, seconds: float) -> Load:
    """Return what clients see who ask for `seconds`, each again as soon as it is answered."""
    waited: list[Times] = []
    begun = time.perf_counter()

    def live(number: int) -> None:
        with closing(Client(port)) as client:
            turn = number
            while time.perf_counter() < begun + seconds:
                waited.append(client.ask(bodies[turn % len(bodies)]))
                turn += clients

    threads = [threading.Thread(target=live, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(waited) / (time.perf_counter() - begun)
    whole = sorted(times.whole for times in waited)
    first = statistics.median(times.first for times in waited)
    return Load(clients, rate, statistics.median(whole), whole[int(0.95 * (len(whole) - 1))], first)
