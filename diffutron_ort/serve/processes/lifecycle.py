"""A server from its start to its end: its socket, its service, and what it does with both."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from diffutron_ort.model import Diffutron
from diffutron_ort.serve import logs
from diffutron_ort.serve.app import make_app
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.guards.edge import guarded
from diffutron_ort.serve.processes import sockets
from diffutron_ort.serve.processes.http_server import run
from diffutron_ort.serve.processes.supervisor import Supervisor
from diffutron_ort.serve.processes.watch import Watch
from diffutron_ort.serve.processes.worker import Report
from diffutron_ort.serve.settings import Settings

TICK = 0.1  # seconds


TURNS = "requests take turns: sequences of this variant cannot share passes, as those of int8-batch can"


def serve(settings: Settings) -> int:
    """Serve until a signal, and return the exit code: 0 after SIGTERM, 130 after SIGINT, 1 where a pass hangs.

    Raises:
        DiffutronError: The address cannot be had, or the model cannot be loaded.
    """
    listener = sockets.listen(settings)
    settings = sockets.as_bound(settings, listener)
    logs.say(f"{sockets.address(listener)} (Ctrl-C to stop)")
    try:
        if settings.processes > 1:
            return Supervisor(listener, settings, logs.say, work).run()
        return serve_on(listener, settings)
    finally:
        if settings.uds:
            Path(settings.uds).unlink(missing_ok=True)


def work(listener: socket.socket, settings: Settings, report: Report, *, loads_first: bool) -> int:
    """Serve as one of several processes."""

    def say(message: str) -> None:
        logs.say(f"worker {os.getpid()}: {message}")

    return serve_on(listener, settings, say, report, loads_first=loads_first)


def serve_on(
    listener: socket.socket,
    settings: Settings,
    say: Callable[[str], object] = logs.say,
    report: Report | None = None,
    *,
    loads_first: bool = False,
) -> int:
    """Serve the model on a listening socket until a signal, and return the exit code.

    Args:
        listener: The socket.
        settings: What to serve, and how.
        say: Called with what people should know.
        report: Called with the service's state, several times a second, where another process supervises this one.
        loads_first: Whether to take no connection until the model is loaded, since others take them meanwhile.

    Raises:
        DiffutronError: The model cannot be loaded.
    """
    service = Service(settings, loader(settings, say))
    watch = Watch(service, settings, say, report)
    service.start()
    while report and loads_first and service.state == "loading":
        report(service.state)
        time.sleep(TICK)
    run(guarded(make_app(service, settings), settings), watch, settings, listener)
    if watch.has_hung or not watch.was_ready:
        os._exit(watch.code)  # the engine's thread hangs or still loads, and would be waited for
    service.close()
    return watch.code


def loader(settings: Settings, say: Callable[[str], object]) -> Callable[[], Diffutron]:
    """Return a function that loads the model, and says what takes long and what costs speed."""
    said: set[str] = set()

    def report(stage: str, done: float) -> None:
        if stage not in said and done < 1:
            said.add(stage)
            say(stage)

    def load() -> Diffutron:
        model = Diffutron.from_pretrained(
            settings.model,
            variant=settings.variant,
            providers=settings.providers or None,
            revision=settings.revision,
            threads=settings.threads,
            spin=settings.spin,
            progress=report,
        )
        if not model.forward.batch_invariant:
            say(TURNS)
        return model

    return load
