r"""Standard output and standard error: always usable, even if the caller closed them, and safe for a terminal.

Standard output gets a text byte for byte, unless it is a terminal, which never gets a control character. Standard error
always shows control characters as `\u001b`: its messages quote names and messages of others, and logs are read in
terminals, too.
"""

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from diffutron_ort.errors import DiffutronWarning

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""The exit codes."""

# Control characters except newline and tab; Unicode's `Bidi_Control`, which reorders what is shown, and the deprecated
# characters beside it; separators of lines and paragraphs; lone surrogates.
STEERING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")
MOVES = re.compile(r"(\n|\x1b\[A)+")  # written by tqdm on its own, to move between progress bars
MOST_MESSAGE = 2000  # characters


class Unwritable(Exception):  # noqa: N818 - it never leaves the command line
    """Standard output cannot be written to; the cause says why."""


class Stream:
    """A text stream that passes cleaned text on to another.

    Attributes:
        target: The other stream, which has the other attributes.
    """

    def __init__(self, target: TextIO, clean: Callable[[str], str], failed: Callable[[Exception], None]) -> None:
        self.target, self._clean, self._failed = target, clean, failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def write(self, text: str) -> int:
        """Write a text, cleaned."""
        self._try(self.target.write, self._clean(text))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write texts, cleaned."""
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        """Flush the other stream."""
        self._try(self.target.flush)

    def drawing(self) -> "Stream":
        """Return the same stream, without the cleaning."""
        return Stream(self.target, str, self._failed)

    def _try(self, do: Callable[..., object], *arguments: str) -> None:
        try:
            do(*arguments)
        except (OSError, ValueError) as error:  # ValueError: it has been closed
            self._failed(error)


def program(main: Callable[[], int], ends: bool | None = None) -> int:
    """Run `main` as the whole work of a process, and return its exit code; after an interrupt, exit at once.

    Args:
        main: The work.
        ends: Whether an interrupt ends it; None is whether it ends what Python runs now.
    """
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    if ends is None:
        ends = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if ends:
            signal.signal(signal.SIGINT, interrupt)
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_rest(stream)
    if interrupts or code == INTERRUPTED:  # a library may turn an interrupt into another error while it loads
        code = INTERRUPTED
        os._exit(code)  # the interpreter's shutdown can be interrupted as well, and Python would show that
    return code


@contextmanager
def guarded() -> Iterator[None]:
    """Put a `Stream` before both streams and show our warnings as messages, and restore everything in the end."""
    with suppress(OSError):
        _occupy()
    with ExitStack() as stack:
        output, errors = (stack.enter_context(_utf8(stream)) for stream in (sys.stdout, sys.stderr))
        terminal = output.isatty()
        stack.enter_context(redirect_stdout(cast("TextIO", Stream(output, stripped if terminal else str, _no_output))))
        stack.enter_context(redirect_stderr(cast("TextIO", Stream(errors, _cleaner(errors), lambda _: None))))
        stack.enter_context(_warnings_said())
        yield


def say(message: str) -> None:
    """Print a message on standard error, as one line of bounded length."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    if len(text) > MOST_MESSAGE:
        text = f"{text[: MOST_MESSAGE // 2]} … {text[-MOST_MESSAGE // 2 :]}"
    if sys.stderr is not None:
        sys.stderr.write(f"diffutron-ort: {text}\n")
        sys.stderr.flush()


def stripped(text: str) -> str:
    """Return a text without the characters that could control a terminal."""
    return STEERING.sub("", text)


def escaped(text: str) -> str:
    """Return a text in which the characters that could control a terminal are shown as their codes."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def drawing(stream: TextIO) -> TextIO:
    """Return a stream for drawing with escape sequences; whoever draws cleans the texts in the drawing."""
    return cast("TextIO", stream.drawing()) if isinstance(stream, Stream) else stream


def _cleaner(errors: TextIO) -> Callable[[str], str]:
    """Return the function that cleans standard error; on a terminal it leaves libraries' progress bars whole."""

    def clean(text: str) -> str:
        bar = text if MOVES.fullmatch(text) else text[: text.startswith("\r")]
        return bar + escaped(text[len(bar) :])

    return clean if errors.isatty() else escaped


def _no_output(error: Exception) -> NoReturn:
    raise Unwritable(error) from error


def _occupy() -> None:
    """Open the null device as descriptor 0, 1 or 2 if it is closed, lest the next file opened be taken for a stream."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


@contextmanager
def _utf8(stream: TextIO | None) -> Iterator[TextIO]:
    """Yield a stream that takes any text, as UTF-8 if it has an encoding; a null stream in place of a closed one."""
    if stream is None or stream.closed:
        with open(os.devnull, "w", encoding="utf-8", errors="backslashreplace") as nothing:  # noqa: PTH123
            yield nothing
    elif not isinstance(stream, io.TextIOWrapper):
        yield stream
    else:
        encoding, errors = stream.encoding, stream.errors
        with suppress(OSError, ValueError):  # it flushes first
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        try:
            yield stream
        finally:
            with suppress(OSError, ValueError):
                stream.reconfigure(encoding=encoding, errors=errors)


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Print our own warnings, each once; show those of libraries only if `python -W` asks for warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", DiffutronWarning)
        foreign = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
            if issubclass(category, DiffutronWarning):
                say(str(message))
            elif sys.warnoptions:
                foreign(message, category, *where, **how)

        warnings.showwarning = show
        yield


def _drop_rest(stream: TextIO | None) -> None:
    """Discard what a stream cannot write, so that the interpreter does not fail on it again at its exit."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
