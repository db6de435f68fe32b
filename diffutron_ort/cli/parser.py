"""A parser whose errors are one line, with what was probably meant."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, NoReturn

from diffutron_ort.brief import brief
from diffutron_ort.cli.terminal import WRONG_USAGE, say

DASHES = "-–—"  # web pages and word processors turn two hyphens into a longer one
NUMBER = re.compile(r"-\.?\d")


class Parser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated flag.

    Attributes:
        text: Name of the positional argument that holds words, if there is one: it may have been left unquoted.
    """

    text = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # `add_argument` formats a usage that nobody sees; with a width given, argparse need not import shutil for it.
        usual: dict[str, Any] = {"allow_abbrev": False, "formatter_class": partial(argparse.HelpFormatter, width=80)}
        super().__init__(*arguments, **usual | options)

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse anything unknown here, where the known flags can be suggested."""
        args = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(args)
        namespace, extra = super().parse_known_args(args, namespace)
        if extra:
            self._refuse(namespace, extra)
        return namespace, extra

    def error(self, message: str) -> NoReturn:
        """Print what is wrong on one line, and exit with code 2."""
        if message.endswith("expected one argument"):
            message += " (a value that begins with - goes after =)"
        say(f"{message}; see {self.prog} --help")
        sys.exit(WRONG_USAGE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        names = [str(choice) for choice in action.choices or ()]
        if names and value not in names:
            likely = meant(str(value), names)
            if not likely and self._subparsers is not None and " " in str(value):
                likely = f" (did you mean {self.prog} generate {shlex.quote(str(value))}?)"
            raise argparse.ArgumentError(action, f"{value!r} is not one of {', '.join(names)}{likely}")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # which Python 3.11 loses
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)

    def _refuse_unknown_flags(self, args: Sequence[str]) -> None:
        """Refuse the first unknown flag; after a command, flags are left to its parser."""
        mine = takewhile(lambda arg: arg != "--" and (self._subparsers is None or arg.startswith("-")), args)
        for flag in filter(None, map(_flag, mine)):
            if flag not in self._option_string_actions:
                self._refuse_flag(flag)

    def _refuse_flag(self, flag: str) -> NoReturn:
        if self._subparsers is not None:
            self.error(f"there is no flag {flag} before the command")
        self.error(f"there is no flag {flag}{self._meant(flag) or self._instead(flag)}")

    def _meant(self, flag: str) -> str:
        """Return a suggestion of the flag that was probably meant, or nothing; the dashes are not compared."""
        names = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        return meant(flag.lstrip(DASHES), names, "--")

    def _instead(self, flag: str) -> str:
        """Return how to give an argument that was given as a flag, or was taken for one."""
        if flag.lstrip(DASHES) in [action.dest for action in self._get_positional_actions()]:
            return f"; give the {flag.lstrip(DASHES)} without a flag"
        return "" if flag.startswith("--") else "; a text that begins with - goes after --, a value after ="

    def _refuse(self, namespace: argparse.Namespace, extra: Sequence[str]) -> NoReturn:
        """Refuse arguments that are left over."""
        for arg in extra:
            if arg[:1] in DASHES and arg.lstrip(DASHES):
                self._refuse_flag(arg)
        if self.text:
            text = getattr(namespace, self.text)
            if text[:1] in DASHES and self._meant(text):
                self._refuse_flag(text)
            whole = " ".join([text, *extra])
            self.error(f"quote the {self.text}, if it has several words: {shlex.quote(whole)}")
        self.error(f"{shlex.quote(extra[0])} is one argument too many")


def filled(text: str) -> str:
    """Return a value that is not empty, for `type=`."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def integer(text: str) -> int:
    """Return an integer, for `type=`."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not an integer") from None


def number(text: str) -> float:
    """Return a number, for `type=`."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a number") from None


def port(text: str) -> int:
    """Return a port, for `type=`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: ports are 0 to 65535")
    return int(text)


def meant(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return a suggestion of the one of `names` that was probably meant, shown after `prefix`, or nothing."""
    from difflib import get_close_matches  # it takes a while to import

    name, names = name.lower().replace("_", "-"), list(names)
    longer = [known for known in names if known.startswith(name)]
    likely = longer[:3] or get_close_matches(name[:80], names, 1)
    return f" (did you mean {' or '.join(prefix + known for known in likely)}?)" if name and likely else ""


def _flag(arg: str) -> str | None:
    """Return the flag that an argument begins with, or None for a text."""
    name = arg.partition("=")[0] if arg.startswith("--") else arg
    is_flag = len(name) > 1 and name.startswith("-") and " " not in name and not NUMBER.match(name)
    return name if is_flag else None
