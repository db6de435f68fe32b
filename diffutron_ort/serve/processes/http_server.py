"""uvicorn, as it is used here: HTTP/1.1 on one socket, until a watch says that it is over."""

import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from diffutron_ort.serve import logs
from diffutron_ort.serve.guards import heads
from diffutron_ort.serve.guards.connections import protocol
from diffutron_ort.serve.processes import sockets
from diffutron_ort.serve.processes.watch import Watch
from diffutron_ort.serve.settings import Settings

LAST = 5  # seconds for connections to close, once everything is answered
OTHER_FILES = 128  # besides connections: the model's, the log, the event loop's
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(app: ASGIApp, watch: Watch, settings: Settings, listener: socket.socket) -> None:
    """Run an app on a listening socket until the watch is over.

    Raises:
        Exception: The watched service has failed, by this.
    """
    logs.configure(with_messages=settings.log_text)
    _allow_files(settings.max_connections + OTHER_FILES)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol(settings),
        loop="asyncio",
        ws="none",
        lifespan="off",
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=sockets.BACKLOG,
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]  # an event loop takes fractions as well
        timeout_graceful_shutdown=LAST,
        h11_max_incomplete_event_size=heads.MOST_HEAD,
    )
    last_resort = threading.Timer(2 * LAST, _end, [watch])
    last_resort.daemon = True
    _Server(config, watch, last_resort).run([listener])
    last_resort.cancel()
    if watch.failure is not None:
        raise watch.failure


class _Server(uvicorn.Server):
    """uvicorn's server, which ends when its watch is over."""

    def __init__(self, config: uvicorn.Config, watch: Watch, last_resort: threading.Timer) -> None:
        super().__init__(config)
        self._watch, self._last_resort = watch, last_resort

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, and then the event loop, within a time."""
        self._last_resort.start()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        return await super().on_tick(counter) or self._watch.is_over()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Tell the watch of signals meanwhile."""
        if threading.current_thread() is not threading.main_thread():  # no other may set handlers
            yield
            return
        usual = {number: signal.getsignal(number) for number in SIGNALS}
        mine = [number for number in SIGNALS if usual[number] is not signal.SIG_IGN]  # as `nohup` has it
        for number in mine:
            signal.signal(number, self._watch.told)
        try:
            yield
        finally:
            for number in mine:
                signal.signal(number, usual[number])


def _end(watch: Watch) -> None:
    """End the process: a thread that parses a request may never end, and would be waited for."""
    os._exit(watch.code)


def _allow_files(number: int) -> None:
    """Let this process have as many files open, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
