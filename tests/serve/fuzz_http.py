"""python -m tests.serve.fuzz_http [--cases 1000] [--seed N]: fuzz a running server, over its own /openapi.json and raw.

It needs the extras [cpu,serve] and schemathesis.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from diffutron_ort.serve.api.openapi import document
from diffutron_ort.serve.settings import Settings
from tests.serve import documented, odd_bodies, raw_http
from tests.serve.running import SECONDS, Running, Vitals, running

BOUNDS = ("--max-steps=4", "--max-passes=600", "--deadline=300")
HASTY = ("--header-timeout=1", "--body-timeout=1", "--idle-timeout=1")  # for what never ends
PATIENT = ("--header-timeout=600", "--body-timeout=600", "--idle-timeout=600")  # for clients that may stand still
MEANT = (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE)  # what a server may say of 500 and above
MOST_GROWTH = 48 * 2**20  # bytes; what is kept once, such as the allocator's arenas
MOST_THREADS = 32  # more; pools of threads grow to their bounds
AT_ONCE = 16


def main() -> int:
    """Return 0 if the server took everything as it should, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.serve.fuzz_http", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="about how many of each kind (default: 1000)")
    parser.add_argument("--seed", type=int, help="of the cases (default: the time)")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    wrong = [*described(options.cases, seed), *raw(options.cases, seed)]
    print("\n".join(["FAILED", *wrong[:20]]) if wrong else "passed")
    return bool(wrong)


def described(cases: int, seed: int) -> list[str]:
    """Try requests that the server's document describes or forbids, and return what was wrong."""
    with running(*BOUNDS, *PATIENT) as server:
        files, wrong = server.vitals().files, warmed(server)
        before = at_rest(server, files)
        wrong += [*documented.covered(server, seed), *documented.tried(server, cases, seed)]
        return wrong + grown(before, server) + finished(server)


def raw(cases: int, seed: int) -> list[str]:
    """Try what is no HTTP as it should be, and return what was wrong."""
    with running(*BOUNDS, *HASTY) as server:
        files, wrong = server.vitals().files, [*warmed(server), *sent(server, "odd requests", odd())]
        before = at_rest(server, files)
        wrong += sent(server, "mutants", raw_http.mutants(cases, seed))
        wrong += hung_up(server, raw_http.mutants(cases // 4, seed + 1))
        wrong += [*sent(server, "odd bodies", bodies()), *sent(server, "odd requests", odd())]
        return wrong + grown(before, server) + finished(server)


def warmed(server: Running) -> list[str]:
    """Send the largest bodies and some odd ones, after which the server holds what it keeps."""
    large = [raw_http.post(path, body) for path, body in odd_bodies.large()]
    return [*sent(server, "large bodies", large), *sent(server, "odd bodies", bodies()[::3])]


def finished(server: Running) -> list[str]:
    """End the server, and return what was wrong with its log or its end."""
    wrong = logged(server)
    server.terminate()
    return wrong + [f"the exit code was {code}" for code in [server.ended(SECONDS)] if code]


def bodies() -> list[bytes]:
    """Return requests with odd bodies: those made by hand, and each field with a value of each type."""
    schemas = document(Settings())["components"]["schemas"]
    names = {
        odd_bodies.CHAT: "ChatRequest",
        odd_bodies.COMPLETIONS: "CompletionRequest",
        odd_bodies.SCORE: "ScoreRequest",
        odd_bodies.DECISIONS: "DecisionRequest",
    }
    confused = [
        raw_http.post(path, body)
        for path, name in names.items()
        for body in odd_bodies.confused(path, list(schemas[name]["properties"]))
    ]
    return [*(raw_http.post(path, body) for path, body in odd_bodies.bodies()), *confused]


def odd() -> list[bytes]:
    """Return requests that are not HTTP as it should be, or end too early."""
    return [*raw_http.odd(), *raw_http.cut()]


def sent(server: Running, name: str, requests: Iterable[bytes]) -> list[str]:
    """Send requests, and return what was wrong with their answers."""
    every = list(requests)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda request: raw_http.heard(server.port, request), every))
    print(f"{len(every):>6} {name}", flush=True)
    pairs = zip(every, answers, strict=True)
    return [
        f"{heard} to {brief(request)}" for request, heard in pairs if not (heard.closed and is_sound(heard.statuses))
    ]


def hung_up(server: Running, requests: Iterable[bytes]) -> list[str]:
    """Send requests on connections that are reset at once."""
    every = [*requests, *raw_http.sound() * 10]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda request: raw_http.heard(server.port, request, hang_up=True), every))
    print(f"{len(every):>6} of which nobody read the answer", flush=True)
    return []


def at_rest(server: Running, files: int) -> Vitals:
    """Return what the server holds once it has nothing to do and no more files open than it may, if that comes true."""
    server.settle()
    end = time.monotonic() + SECONDS
    while (found := server.vitals()).files > files and time.monotonic() < end:
        time.sleep(0.1)
    print(f"{found.memory / 2**20:.0f} MiB, {found.files} files, {found.threads} threads", flush=True)
    return found


def grown(before: Vitals, server: Running) -> list[str]:
    """Return what the server holds more of."""
    after = at_rest(server, before.files)
    most = Vitals(before.memory + MOST_GROWTH, before.files, before.threads + MOST_THREADS)
    leaks = any(now > allowed for now, allowed in zip(after, most, strict=True))
    return [f"leaks: {before} before, {after} after"] if leaks else []


def logged(server: Running) -> list[str]:
    """Return the lines of the log that tell of failures."""
    print(dict(sorted(server.statuses().items())), flush=True)
    return [
        f"logged: {line}"[:2000] for line in server.lines() if "trace" in line or not is_sound([line.get("status", 0)])
    ]


def is_sound(statuses: Iterable[object]) -> bool:
    """Return whether a server that has not failed can answer so."""
    return all(int(str(status)) < HTTPStatus.INTERNAL_SERVER_ERROR or status in MEANT for status in statuses)


def brief(request: bytes) -> str:
    """Return the beginning and the end of a request."""
    return repr(request if len(request) < 800 else request[:400] + b" ... " + request[-300:])


if __name__ == "__main__":
    sys.exit(main())
