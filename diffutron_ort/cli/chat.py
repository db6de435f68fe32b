"""`diffutron-ort chat`: talk with a model, in a terminal or from a script."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from typing import Any

from diffutron_ort.chat.history import History
from diffutron_ort.chat.repl import converse, follow, until_interrupted
from diffutron_ort.chat.session import Session
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import KNOWS, REAL, loading_arguments, located
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.reading import line_reader
from diffutron_ort.cli.terminal import DONE, FAILED, drawing, say
from diffutron_ort.cli.writing import print_json, write_text
from diffutron_ort.completion import Completion
from diffutron_ort.config import PRESETS
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.signals import told_to_end

DEMONSTRATION = f"{KNOWS}, one a talk (/reset begins another). The real model: diffutron-ort chat {REAL}"
GREETING = "(/help lists the commands, Ctrl-D ends)"
SOON = 1.0  # seconds: most of what is wrong with a model shows by then, and a small one is loaded
FIGURES = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "steps", "mean_confidence")


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    preset = "options to start from (default: the model's own, and short)"
    parser.add_argument("--system", metavar="TEXT", default="", help="what the model is told before all turns")
    parser.add_argument("--preset", choices=tuple(PRESETS), help=preset)
    parser.add_argument("--json", action="store_true", help="print a JSON object for each turn instead of the answer")
    parser.add_argument("--no-history", dest="history", action="store_false", help="keep nothing of what is typed")
    add_model(parser, "model", nargs="?")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Talk until the user or the input ends it, and return the exit code."""
    options = given_options(arguments)
    with told_to_end():
        loading = _load(arguments, options)
        if arguments.model is None:
            say(DEMONSTRATION)
        how = {"system": arguments.system, "preset": arguments.preset, **options}
        if sys.stdin is not None and sys.stdin.isatty():
            return _talk(arguments, loading, how)
        return _follow(arguments, loading, how)


def _load(arguments: argparse.Namespace, options: dict[str, Any]) -> Future[Diffutron]:
    """Begin to load the model, once it is on this machine."""
    folder = located(arguments.model, arguments.revision, arguments.variant)

    def load() -> Diffutron:
        found = {"model": folder, "revision": None}
        model = Diffutron.from_pretrained(**loading_arguments(arguments) | found)
        model.config(arguments.preset, **options)
        return model

    return ThreadPoolExecutor(1).submit(load)


def _talk(arguments: argparse.Namespace, loading: Future[Diffutron], how: dict[str, Any]) -> int:
    screen = Screen(arguments.json, terminal=True)
    session = Session(loading.result, screen, write_text, until=until_interrupted, **how)
    read = _prompt(arguments.history) or line_reader("> ")
    if wait([loading], SOON).done:
        loading.result()  # what is wrong with it is said now
    screen.note(GREETING)
    converse(session, read)
    return DONE


def _follow(arguments: argparse.Namespace, loading: Future[Diffutron], how: dict[str, Any]) -> int:
    """Do what standard input says; each line that could not be done has been told of."""
    session = Session(loading.result, Screen(arguments.json), write_text, **how)
    return FAILED if follow(session, line_reader()) else DONE


def _prompt(keeps: bool) -> Callable[[], str] | None:
    """Return the line editor, if prompt_toolkit is installed and can draw."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from diffutron_ort.chat.prompt import Prompt  # needs prompt_toolkit
    except ImportError:
        return None
    return Prompt(History(say, keeps), drawing(sys.stdout))


class Screen:
    """Shows a conversation: answers on standard output, and all else on standard error.

    On a terminal, an answer is shown as it comes: the canvas if rich is installed, otherwise what is settled.
    """

    def __init__(self, as_json: bool, terminal: bool = False) -> None:
        self._as_json, self._terminal = as_json, terminal
        self._printed = ""

    def shown(self, steps: Iterator[Step], model: Diffutron) -> Iterator[Step]:
        """Return steps, which show themselves on a terminal."""
        if self._terminal and sys.stderr.isatty() and find_spec("rich"):
            from diffutron_ort.cli.live import show_answer

            return show_answer(steps, model, sys.stderr)
        return self._streamed(steps) if self._terminal and sys.stdout.isatty() and not self._as_json else steps

    def answered(self, question: str, completion: Completion) -> None:
        """Print an answer, or what is missing of it."""
        if self._as_json:
            print_json({"question": question, **{name: getattr(completion, name) for name in FIGURES}})
        else:
            print(completion.text[len(self._printed) :], flush=True)
        self._printed = ""

    def failed(self, question: str, error: str) -> None:
        """Say what went wrong."""
        self.note(error)
        if self._as_json:
            print_json({"question": question, "error": error})

    def note(self, text: str) -> None:
        """Print a remark."""
        if self._printed:
            print(flush=True)
            self._printed = ""
        for line in text.splitlines():
            if self._terminal:
                print(line, file=sys.stderr, flush=True)
            else:
                say(line)

    def _streamed(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield steps, and print what each settles."""
        for step in steps:
            print(step.settled[len(self._printed) :], end="", flush=True)
            self._printed = step.settled
            yield step
