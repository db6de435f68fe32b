"""The loop of a conversation: read a line, do it, and go on whatever became of it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from diffutron_ort.chat.commands import SLASH, execute, is_command
from diffutron_ort.chat.echo import hidden
from diffutron_ort.chat.session import Session
from diffutron_ort.errors import DiffutronError
from diffutron_ort.sampler.sequence import Step

STOPPED = "(stopped: the question and its answer are dropped)"
LEAVING = "(Ctrl-C again, Ctrl-D or /exit ends)"


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user has stopped the answer."""


def converse(session: Session, read: Callable[[], str]) -> None:
    """Talk with a user at a terminal, until he ends it with Ctrl-D, or with Ctrl-C twice.

    Args:
        session: What to talk to.
        read: Returns what the user says next. It raises EOFError at Ctrl-D, and KeyboardInterrupt at Ctrl-C if nothing
            has been typed.
    """
    leaving = False
    with _interruptible():
        while True:
            try:
                line = read()
                leaving = False
                if not _goes_on(session, line):
                    return
            except EOFError:
                return
            except KeyboardInterrupt:
                if leaving:
                    return
                leaving = True
                session.screen.note(LEAVING)


def _goes_on(session: Session, line: str) -> bool:
    """Do what a line says, and return whether the talk goes on; Ctrl-C ends no more than this line."""
    try:
        with hidden():
            respond(session, line)
    except EOFError:
        return False
    except KeyboardInterrupt:
        session.screen.note(STOPPED)
    return True


def follow(session: Session, read: Callable[[], str]) -> int:
    """Do what the lines of a script say, until EOFError; return how many could not be done.

    Args:
        session: What to talk to.
        read: Returns the next line.
    """
    failed = 0
    while True:
        try:
            failed += not respond(session, read())
        except EOFError:
            return failed


def respond(session: Session, line: str) -> bool:
    """Do what a line says, and return whether that could be done; show what went wrong.

    Raises:
        EOFError: It says that the conversation is to end.
        DiffutronError: The model cannot be loaded.
    """
    session.model  # noqa: B018 - here, since its failure is not the line's
    question = line.strip()
    try:
        if is_command(question):
            execute(session, question)
        elif question:
            session.ask(question.removeprefix(SLASH) if question.startswith(2 * SLASH) else question)
    except Stopped:
        session.screen.note(STOPPED)
    except (DiffutronError, OSError, MemoryError) as error:
        session.screen.failed(question, _message(error))
        return False
    return True


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "out of memory"


def until_interrupted(steps: Iterator[Step]) -> Iterator[Step]:
    """Yield steps; after Ctrl-C, raise Stopped in place of the next.

    Nothing is interrupted amid a step, unless Ctrl-C is pressed again.
    """
    with _noticing() as pressed:
        for step in steps:
            if pressed:
                raise Stopped
            yield step


@contextmanager
def _noticing() -> Iterator[list[int]]:
    """Yield a list to which the first Ctrl-C is added; the next is a KeyboardInterrupt."""
    pressed: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    usual = signal.signal(signal.SIGINT, notice)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C a KeyboardInterrupt, and nothing that the process remembers when it ends."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
