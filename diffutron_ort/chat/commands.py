"""The commands of a conversation: lines that begin with a slash."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from typing import NamedTuple

from diffutron_ort.chat import options
from diffutron_ort.chat.session import Session
from diffutron_ort.config import OPTION_NAMES, PRESET_OPTIONS
from diffutron_ort.errors import OptionError

SLASH = "/"
NOTHING = "-"  # in place of a text, to have none
MOST_VALUES = 100  # that are offered at once


class Command(NamedTuple):
    """A command.

    Attributes:
        name: Without the slash.
        argument: What follows it, in capitals; in brackets if it can be left out; empty if there is none.
        help: What the command does.
        run: Does it, given the argument.
        values: What an argument that was begun can become, for completion.
    """

    name: str
    argument: str
    help: str
    run: Callable[[Session, str], None]
    values: Callable[[str], Iterable[str]] = lambda _: ()

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"{SLASH}{self.name} {self.argument}".rstrip()


def is_command(line: str) -> bool:
    """Return whether a line is a command; one that begins with two slashes is a question that begins with one."""
    return line.startswith(SLASH) and not line.startswith(2 * SLASH)


def execute(session: Session, line: str) -> None:
    """Do what a command says.

    Raises:
        OptionError: There is no such command or option, or its argument is missing, too much or not allowed.
        InputError: As for the commands.
        OSError: A file cannot be written.
        EOFError: The conversation is to end.
    """
    name, _, argument = line.removeprefix(SLASH).partition(" ")
    command, argument = _named(name), argument.strip()
    if argument and not command.argument:
        raise OptionError(f"{command.usage} takes no argument")
    if not argument and command.argument and not command.argument.startswith("["):
        raise OptionError(f"{SLASH}{name} needs its argument: {command.usage}")
    command.run(session, argument)


def completions(line: str) -> Iterator[tuple[str, int, str]]:
    """Yield what the end of a line can become, how many characters that replaces, and what it means."""
    if not is_command(line) or "\n" in line:
        return
    name, space, argument = line.removeprefix(SLASH).partition(" ")
    if not space:
        yield from ((SLASH + each.name, len(line), each.help) for each in COMMANDS if each.name.startswith(name))
    elif name in _BY_NAME:
        word = argument.lstrip()
        for value in _BY_NAME[name].values(word):
            yield value, len(word), ""


def _named(name: str) -> Command:
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = get_close_matches(name.lower()[:80], _BY_NAME, 1)
    likely = f"did you mean {SLASH}{near[0]}? " if near else ""
    raise OptionError(
        f"there is no command {SLASH}{name[:80]}: {likely}/help lists them; "
        "a question that begins with a slash is written with two"
    )


def _help(session: Session, _: str) -> None:
    widest = max(len(each.usage) for each in COMMANDS)
    session.screen.note("\n".join(f"{each.usage:{widest}}  {each.help}" for each in COMMANDS))


def _system(session: Session, text: str) -> None:
    if text:
        session.conversation.system = "" if text == NOTHING else text
    session.screen.note(session.conversation.system or "(no system message)")


def _reset(session: Session, _: str) -> None:
    session.reset()
    session.screen.note("(the talk begins anew)")


def _retry(session: Session, seed: str) -> None:
    if seed:
        session.set(seed=options.parsed("seed", seed))
    session.ask_again()


def _undo(session: Session, _: str) -> None:
    question, _ = session.undo()
    session.screen.note(f"(removed: {question})")


def _preset(session: Session, name: str) -> None:
    if name:
        session.start_from(name)
    if session.preset is None:
        session.screen.note("(no preset: the model's own options)")
    else:
        values = PRESET_OPTIONS[session.preset].items()
        session.screen.note(" ".join([session.preset, *(f"{key}={options.shown(value)}" for key, value in values)]))


def _set(session: Session, text: str) -> None:
    name, _, value = text.partition(" ")
    _option(options.named(name))(session, value.strip())


def _option(name: str) -> Callable[[Session, str], None]:
    """Return the function that sets an option, or shows it if there is no value."""

    def run(session: Session, value: str) -> None:
        if value:
            session.set(**{name: options.parsed(name, value)})
        elif name not in OPTION_NAMES:
            session.unset(name)  # says what options there are
        session.screen.note(f"{name} {options.shown(getattr(session.config, name))}")

    return run


def _unset(session: Session, text: str) -> None:
    session.unset(name := options.named(text))
    session.screen.note(f"{name} {options.shown(getattr(session.config, name))}")


def _options(session: Session, _: str) -> None:
    values = asdict(session.config)
    marks = {name: " (set)" if name in session.options else "" for name in values}
    rows = [f"{name:{WIDEST}}  {options.shown(value)}{marks[name]}" for name, value in values.items()]
    session.screen.note("\n".join(rows))


def _save(session: Session, name: str) -> None:
    session.write(os.path.expanduser(name), session.conversation.saved(name))  # noqa: PTH111 - does not raise
    session.screen.note(f"(written: {name})")


def _exit(_: Session, __: str) -> None:
    raise EOFError


def _beginning(values: Iterable[str]) -> Callable[[str], Iterable[str]]:
    """Return the function that completes one of `values`."""
    return lambda word: (value for value in values if value.startswith(word))


def _settings(text: str) -> Iterator[str]:
    """Yield the options that a text can begin, or its option with each of the values that this can have."""
    name, space, value = text.partition(" ")
    if not space:
        yield from _beginning(sorted(OPTION_NAMES))(name)
    for choice in options.choices(options.named(name)) if space else ():
        if choice.startswith(value.lstrip()):
            yield f"{name} {choice}"


def _files(text: str) -> Iterator[str]:
    """Yield the files and folders whose paths begin with a text."""
    folder, name = os.path.split(text)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)  # noqa: PTH111
    except OSError:
        return
    found = (entry for entry in entries if entry.name.startswith(name) and not (entry.name[0] == "." != name[:1]))
    for entry, _ in zip(found, range(MOST_VALUES), strict=False):
        yield os.path.join(folder, entry.name) + (os.sep if entry.is_dir() else "")  # noqa: PTH118


COMMANDS = (
    Command("help", "", "list the commands", _help),
    Command("system", "[TEXT]", "tell the model this first (- for nothing), or show it", _system),
    Command("reset", "", "forget all turns; the system message stays", _reset),
    Command("retry", "[SEED]", "answer the last question again, with that seed", _retry),
    Command("undo", "", "remove the last question and its answer", _undo),
    Command(
        "preset",
        "[NAME]",
        f"start from the options of {', '.join(PRESET_OPTIONS)}",
        _preset,
        _beginning(PRESET_OPTIONS),
    ),
    Command("steps", "[N]", "set or show how many denoising steps there are", _option("steps")),
    Command("seed", "[N]", "set or show the seed of each answer", _option("seed")),
    Command("set", "OPTION [VALUE]", "set or show any option", _set, _settings),
    Command(
        "unset", "OPTION", "go back to the preset's or the model's value", _unset, _beginning(sorted(OPTION_NAMES))
    ),
    Command("options", "", "list the options and their values", _options),
    Command("save", "FILE", "write the talk to a .json (messages) or .md file", _save, _files),
    Command("exit", "", "end the talk, as Ctrl-D does", _exit),
)
WIDEST = max(map(len, OPTION_NAMES))
_BY_NAME = {each.name: each for each in COMMANDS} | {"quit": COMMANDS[-1], "bye": COMMANDS[-1]}
