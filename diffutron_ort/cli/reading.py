"""The text that a command works on: an argument, or the content of standard input."""

import codecs
import os
import sys
from collections.abc import Callable

from diffutron_ort.cli.terminal import say
from diffutron_ort.errors import InputError
from diffutron_ort.text.chat_template import is_blank

MOST_BYTES = 2**24  # of standard input: more than ten times the text that fits into any context
END = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
REMEDY = "give it as an argument in quotes, or on standard input"
WIDE = (
    "standard input is not UTF-8, but UTF-16 or UTF-32: convert it; "
    "PowerShell pipes UTF-8 after $OutputEncoding = [Text.Encoding]::UTF8"
)


def read_text(given: str, name: str) -> str:
    """Return the text given as an argument, or for `-` that of standard input, without its last newline.

    Args:
        given: The argument.
        name: What to call the text in errors.

    Raises:
        InputError: There is no text, or it is blank, too long or not UTF-8.
    """
    text = _standard_input(name) if given == "-" else given
    if is_blank(text):
        found = f"standard input holds no {name}" if given == "-" else f"the {name} is blank"
        raise InputError(f"{found}: {REMEDY}")
    return text


def line_reader(prompt: str = "") -> Callable[[], str]:
    """Return a function that returns the next line of standard input, without its newline.

    It raises EOFError at the end, and InputError for a line that is too long, or if the input is UTF-16 or UTF-32. What
    is not UTF-8 becomes lone surrogates.

    Args:
        prompt: What to write on standard error before each line.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed, so there is nothing to read: write one question on each line")
    stream = getattr(sys.stdin, "buffer", sys.stdin)

    def read() -> str:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = stream.readline(MOST_BYTES + 1)
        if not line:
            if prompt:
                print(file=sys.stderr, flush=True)  # what follows does not stand beside it
            raise EOFError
        if len(line) > MOST_BYTES:
            raise InputError(f"standard input has a line of more than {MOST_BYTES} bytes, the limit: shorten it")
        if isinstance(line, bytes):
            _check_encoding(line)
            line = line.decode("utf-8", "surrogateescape")
        return str(line).removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")

    return read


def _standard_input(name: str) -> str:
    stream = sys.stdin
    if stream is None or stream.closed:
        raise InputError(f"standard input is closed, so there is no {name}: {REMEDY}")
    if stream.isatty():
        say(f"reading the {name} from standard input; end it with {END}")
    content = getattr(stream, "buffer", stream).read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"standard input holds more than {MOST_BYTES} bytes, the limit: shorten the {name}")
    text = content if isinstance(content, str) else _decoded(content)
    return text.removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")


def _check_encoding(content: bytes) -> None:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or b"\0" in content:
        raise InputError(WIDE)


def _decoded(content: bytes) -> str:
    _check_encoding(content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}") from error
