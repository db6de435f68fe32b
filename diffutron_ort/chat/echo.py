"""Keep what is typed during an answer out of the picture; it is there at the next prompt."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import termios
except ImportError:  # on Windows
    termios = None  # type: ignore[assignment]


@contextmanager
def hidden() -> Iterator[None]:
    """Turn off the echo of standard input, if that is a terminal whose echo can be turned off."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    usual = termios.tcgetattr(sys.stdin)
    silent = [*usual]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, usual)
