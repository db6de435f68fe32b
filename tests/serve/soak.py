"""python -m tests.serve.soak [--seconds 60] [--clients 100]: many clients at once, some of whom hang up, on a server.

Each answer must be the library's. Two servers take half the time each: one with the usual queue, one with a small one.
Both must stay within their bounds, be idle afterwards, and lose no accepted request when they are told to end.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from random import Random

from diffutron_ort import Diffutron
from tests.serve.client import Ask, End, Form
from tests.serve.pool import Known, known
from tests.serve.running import SECONDS, Running, running

POOL = 60  # requests
LEAVING = 0.25  # of all clients
MOST_GROWTH = 64 * 2**20  # bytes, after the first quarter of the time
MOST_FILES = 12  # of an idle server
SMALL, USUAL = 8, 256  # sequences that may wait
GRACE = 300  # seconds; on a busy machine, what is accepted takes a while
PAUSE = 0.05  # of a client that was told to come again


class Crowd:
    """Clients that ask until they are told to stop.

    Attributes:
        ends: What became of their requests.
        wrong: Those with which something was wrong.
    """

    def __init__(self, port: int, pool: list[Known], number: int, seed: int, leaving: float) -> None:
        self.ends: Counter[End] = Counter()
        self.wrong: list[Ask] = []
        self._port, self._pool, self._leaving = port, pool, leaving
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._live, args=(Random(f"{seed} {i}"),)) for i in range(number)]

    def start(self) -> None:
        """Let them come."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell them to ask nothing more."""
        self._stop.set()

    def join(self) -> None:
        """Wait until they have got their answers."""
        for thread in self._threads:
            thread.join()

    def _live(self, random: Random) -> None:
        while not self._stop.is_set():
            ask = Ask(random.choice(self._pool), random.choice(list(Form)), random.random() < self._leaving, random)
            ask.run(self._port)
            with self._lock:
                self.ends[ask.end] += 1
                if ask.end in (End.WRONG, End.LOST):
                    self.wrong.append(ask)
            if ask.end in (End.FULL, End.CLOSED):
                self._stop.wait(PAUSE)


def main() -> int:
    """Return 0 if the servers did as they should, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.serve.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="(default: 60)")
    parser.add_argument("--clients", type=int, default=100, help="(default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="of what they ask (default: 1)")
    options = parser.parse_args()
    pool = known(Diffutron.from_pretrained(), POOL, options.seed)
    half = options.seconds / 2
    wrong = [found for most in (USUAL, SMALL) for found in soaked(most, pool, half, options.clients, options.seed)]
    print("\n".join(["FAILED", *wrong[:20]]) if wrong else "passed")
    return bool(wrong)


def soaked(most: int, pool: list[Known], seconds: float, clients: int, seed: int) -> list[str]:
    """Return what was wrong with a server whose queue has room for `most` sequences."""
    print(f"{clients} clients for {seconds:g} s, and room for {most} sequences that wait", flush=True)
    with running("--max-queue", str(most), "--grace", str(GRACE)) as server:
        crowd = Crowd(server.port, pool, clients, seed, LEAVING)
        crowd.start()
        wrong = watched(server, most, seconds)
        crowd.stop()
        crowd.join()
        print(f"  {told(crowd.ends)}", flush=True)
        wrong += map(fault, crowd.wrong)
        if most == SMALL and not crowd.ends[End.FULL]:
            wrong.append("nobody was told that the queue is full")
        return wrong + idle(server) + ended(server, pool, clients, seed + 1)


def watched(server: Running, most: int, seconds: float) -> list[str]:
    """Watch a server's bounds for some seconds, and return where it was beyond them."""
    begun, longest, memory = time.monotonic(), 0.0, []
    while time.monotonic() < begun + seconds:
        time.sleep(0.25)
        longest = max(longest, server.metrics()["diffutron_waiting_sequences"])
        memory.append(server.vitals().memory)
    growth = max(memory) - max(memory[: 1 + len(memory) // 4])
    print(f"  at most {longest:g} waited; {max(memory) / 2**20:.0f} MiB, {growth / 2**20:.0f} of them late", flush=True)
    room = most + 8  # the sequences that are about to run are counted with those that wait
    return [f"{longest:g} waited"] * (longest > room) + [f"memory grew by {growth} bytes"] * (growth > MOST_GROWTH)


def idle(server: Running) -> list[str]:
    """Return what is left on a server that nobody asks any more."""
    try:
        server.settle()
    except TimeoutError as error:
        return [str(error)]
    end = time.monotonic() + SECONDS
    while (files := server.vitals().files) > MOST_FILES:
        if time.monotonic() > end:
            return [f"{files} files are open"]
        time.sleep(0.1)
    return []


def ended(server: Running, pool: list[Known], clients: int, seed: int) -> list[str]:
    """End a server while it is asked, and return what was wrong with that.

    No request may be lost that is in its log; one that it has not accepted may be.
    """
    crowd = Crowd(server.port, pool, clients, seed, 0)
    crowd.start()
    time.sleep(1)
    crowd.stop()
    server.terminate()
    begun = time.monotonic()
    crowd.join()
    code = server.ended(GRACE)
    print(f"  told to end: {told(crowd.ends)}; it ended with {code} after {time.monotonic() - begun:.1f} s", flush=True)
    lines = server.lines()
    failures, accepted = [line for line in lines if "trace" in line], {line.get("id") for line in lines}
    wrong = [fault(ask) for ask in crowd.wrong if ask.end == End.WRONG or ask.id in accepted]
    return wrong + [f"it ended with {code}"] * bool(code) + [f"logged: {line}"[:2000] for line in failures]


def fault(ask: Ask) -> str:
    """Return what was wrong with a request."""
    return f"{ask.end.value}: {ask.said}"


def told(ends: Counter[End]) -> str:
    """Return how many requests ended in which way, for people."""
    return ", ".join(f"{count} {end.value}" for end, count in sorted(ends.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    sys.exit(main())
