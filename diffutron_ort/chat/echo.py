"""The settings of the terminal that standard input is: kept as they are, and without echo for a while."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import termios
except ImportError:  # on Windows
    termios = None  # type: ignore[assignment]


@contextmanager
def kept() -> Iterator[None]:
    """Restore the settings afterwards, whatever has become of them."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    usual = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, usual)


@contextmanager
def hidden() -> Iterator[None]:
    """Turn off the echo, so that what is typed during an answer stays out of its picture until the next prompt."""
    with kept():
        if termios is not None and sys.stdin.isatty():
            silent = termios.tcgetattr(sys.stdin)
            silent[3] &= ~termios.ECHO
            termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
        yield
