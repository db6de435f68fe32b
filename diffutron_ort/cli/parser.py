"""A parser whose errors are one line, which says what was probably meant."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from diffutron_ort.cli.terminal import WRONG_USAGE, say

DASHES = "-–—"  # a page or a word processor makes the longer ones of two hyphens
NUMBER = re.compile(r"-\.?\d")


class Parser(argparse.ArgumentParser):
    """A parser of flags, which are never abbreviated.

    Attributes:
        text: The name of a positional argument that holds words, so that an unquoted one is known.
    """

    text = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False} | options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; anything unknown is an error here already, where the flags are known that may have been meant."""
        args = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(args)
        namespace, extra = super().parse_known_args(args, namespace)
        if extra:
            self._refuse(namespace, extra)
        return namespace, extra

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on one line and end with exit code 2."""
        if message.endswith("expected one argument"):
            message += " (one that begins with - goes after =)"
        say(f"{message}; see {self.prog} --help")
        sys.exit(WRONG_USAGE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        names = [str(choice) for choice in action.choices or ()]
        if names and value not in names:
            likely = meant(str(value), names)
            if not likely and self._subparsers is not None and " " in str(value):
                likely = f" (did you mean {self.prog} generate {shlex.quote(str(value))}?)"
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(names)}{likely}")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # which Python 3.11 loses
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)

    def _refuse_unknown_flags(self, args: Sequence[str]) -> None:
        """Refuse the first flag that there is not; what follows a command is its parser's to look at."""
        mine = takewhile(lambda arg: arg != "--" and (self._subparsers is None or arg.startswith("-")), args)
        for flag in filter(None, map(_flag, mine)):
            if flag not in self._option_string_actions:
                self._refuse_flag(flag)

    def _refuse_flag(self, flag: str) -> NoReturn:
        if self._subparsers is not None:
            self.error(f"there is no flag {flag} before the command")
        self.error(f"there is no flag {flag}{self._meant(flag) or self._instead(flag)}")

    def _meant(self, flag: str) -> str:
        """Return what to say of the flag that was probably meant, if any; the dashes make no two flags alike."""
        names = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        return meant(flag.lstrip(DASHES), names, "--")

    def _instead(self, flag: str) -> str:
        """Return what to say of how an argument is given that was taken for a flag, or as one."""
        if flag.lstrip(DASHES) in [action.dest for action in self._get_positional_actions()]:
            return f"; give the {flag.lstrip(DASHES)} without it"
        return "" if flag.startswith("--") else "; a text that begins with - goes after --, a value after ="

    def _refuse(self, namespace: argparse.Namespace, extra: Sequence[str]) -> NoReturn:
        """Refuse more arguments than there are places for."""
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
    """Return the value of a flag, which must not be empty, for `type=`."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def port(text: str) -> int:
    """Return the number of a port, for `type=`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they are 0 to 65535")
    return int(text)


def meant(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return what to say of the one of `names` that was probably meant, if any; it is shown after `prefix`."""
    from difflib import get_close_matches  # it takes a while to import

    name, names = name.lower().replace("_", "-"), list(names)
    longer = [known for known in names if known.startswith(name)]
    likely = longer[:3] or get_close_matches(name[:80], names, 1)
    return f" (did you mean {' or '.join(prefix + known for known in likely)}?)" if name and likely else ""


def _flag(arg: str) -> str | None:
    """Return the flag that an argument is, or is of, if it is not a text."""
    name = arg.partition("=")[0] if arg.startswith("--") else arg
    is_flag = len(name) > 1 and name.startswith("-") and " " not in name and not NUMBER.match(name)
    return name if is_flag else None
