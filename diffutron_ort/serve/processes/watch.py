"""What a server does apart from answering: it says when it is ready, drains when told to end, notices what hangs."""

import os
import signal
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings

DONE, FAILED, INTERRUPTED = 0, 1, 130
SOON = 1  # seconds until a client tries again, by then at another server


class Watched(Protocol):
    """What is asked of a service here."""

    @property
    def state(self) -> str:
        """Return `loading`, `ready`, `draining` or `failed`."""

    @property
    def failure(self) -> Exception | None:
        """Return why it has failed."""

    @property
    def idle(self) -> bool:
        """Return whether nothing is running, waiting or being written."""

    @property
    def pass_age(self) -> float | None:
        """Return the seconds since the pass that runs now began."""

    def drain(self) -> None:
        """Take no more requests."""

    def abandon(self, error: Exception) -> None:
        """Fail all requests at once."""


class Watch:
    """Looks after a service, several times a second.

    Attributes:
        was_ready: Whether the service has been ready.
        code: The exit code, once the server is to end.
        failure: Why the service has failed, if it has.
        has_hung: Whether a pass hangs, so that its thread will never end.
    """

    def __init__(
        self,
        service: Watched,
        settings: Settings,
        say: Callable[[str], object],
        report: Callable[[str], object] | None = None,
    ) -> None:
        """Set up a watch.

        Args:
            service: What it looks after.
            settings: Its limits.
            say: Called with what people should know.
            report: Called with the service's state, every time, where another process supervises this one.
        """
        self._service, self._settings, self._say, self._report = service, settings, say, report
        self._begun = time.monotonic()
        self.was_ready = False
        self._signal: int | None = None
        self._end = 0.0  # of the grace, by the monotonic clock
        self.code = DONE
        self.failure: Exception | None = None
        self.has_hung = False

    def told(self, number: int, frame: object = None) -> None:  # noqa: ARG002 - as handlers of signals are called
        """End as a signal asks: after what was accepted is answered, and at once when told again.

        A supervisor kills when it is told again; what it passes on may have come from its own supervisor as well.
        """
        if self._signal is not None and self._report is None:
            os._exit(128 + number)
        self._signal = number

    def is_over(self) -> bool:
        """Return whether the server is to end now."""
        if self._report is not None:
            self._report(self._service.state)
        self._tell_ready()
        return self._has_failed() or self._hangs() or (self._signal is not None and self._has_drained(self._signal))

    def _tell_ready(self) -> None:
        if not self.was_ready and self._service.state == "ready":
            self.was_ready = True
            self._say(f"ready after {time.monotonic() - self._begun:.2f} s")

    def _has_failed(self) -> bool:
        if self._service.state == "failed":
            self.code, self.failure = FAILED, self._service.failure
        return self._service.state == "failed"

    def _hangs(self) -> bool:
        age, limit = self._service.pass_age, self._settings.pass_timeout
        if age is None or age <= limit:
            return False
        self._say(f"a pass has taken more than {limit:g} s (--pass-timeout): ending, so that a supervisor starts anew")
        self._service.abandon(_unavailable("the model does not answer"))
        self.code, self.has_hung = FAILED, True
        return True

    def _has_drained(self, number: int) -> bool:
        now = time.monotonic()
        if not self._end:
            self.code = INTERRUPTED if number == signal.SIGINT else DONE
            self._end = now + self._settings.grace
            self._service.drain()
            if not self._service.idle:
                self._say(
                    f"finishing what was accepted, for at most {self._settings.grace:g} s; once more ends at once"
                )
        if self._service.idle:
            return True
        if now < self._end:
            return False
        self._say("the time for finishing is over (--grace): the requests that are left fail")
        self._service.abandon(_unavailable("the server has ended"))
        return True


def _unavailable(message: str) -> ApiError:
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, f"{message}: try again", retry_after=SOON)
