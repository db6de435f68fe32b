"""The log: a JSON object on each line of standard error."""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

MOST = 300  # characters of a text that others chose


def write(fields: Mapping[str, object]) -> None:
    """Write a line with the time and `fields`; no character in it can control a terminal."""
    _print(json.dumps({"time": now(), **fields}, default=str).replace("\x7f", "\\u007f"))


def say(message: str) -> None:
    """Print a message for people on standard error, as one line."""
    _print(f"diffutron-ort: {' '.join(message.split())}")


def _print(line: str) -> None:
    """Print a line, if it can be: a server goes on without its log."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def now() -> str:
    """Return the time as ISO 8601 writes it, in UTC and milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cut(text: str) -> str:
    """Return a text that others chose, shortened."""
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def trace(error: BaseException, *, with_message: bool) -> str:
    """Return where an error comes from.

    Args:
        error: What was raised.
        with_message: Whether to add its message, which may quote a request.
    """
    places = "".join(traceback.format_tb(error.__traceback__))
    name = type(error).__name__
    return f"{places}{name}: {error}" if with_message else f"{places}{name}"


def configure(*, with_messages: bool) -> None:
    """Let libraries' warnings and errors go into this log.

    Args:
        with_messages: Whether the messages of errors are written, which may quote a request.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_Handler(with_messages)], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of clients, which have lines of their own


class _Handler(logging.Handler):
    """Writes what libraries log."""

    def __init__(self, with_messages: bool) -> None:
        super().__init__()
        self._with_messages = with_messages

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        fields = {"level": record.levelname.lower(), "logger": record.name, "message": cut(record.getMessage())}
        if record.exc_info and record.exc_info[1] is not None:
            fields["trace"] = trace(record.exc_info[1], with_message=self._with_messages)
        write(fields)
