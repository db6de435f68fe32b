"""The command line: the table of commands, and what becomes of their errors."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import NoReturn

from diffutron_ort._version import __version__
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.terminal import DONE, FAILED, INTERRUPTED, WRONG_USAGE, Unwritable, guarded, program, say
from diffutron_ort.errors import DiffutronError, OptionError

PROGRAM = "diffutron-ort"
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "generate": "answer a prompt, or each line of a file",
        "chat": "talk with a model, in a terminal or from a script",
        "fill": "replace each <mask> in a text by a token, or write values into the slots of a template",
        "score": "say how likely a text is",
        "perplexity": "measure how well a model predicts the texts in files",
        "eval": "evaluate a model on tasks such as CETVEL's (needs the extra [eval])",
        "choose": "say how likely each of the given answers to a question is",
        "bench": "measure how fast a model runs on this machine",
        "verify": "check a bundle's files, and that it generates here what it should",
        "serve": "answer over HTTP as OpenAI's API does (needs the extra [serve])",
        "demo": "show in a browser how a model answers (npm downloads its libraries once)",
        "doctor": "say what is wrong with this machine or this installation, and what to do",
        "info": "show where a model comes from, and its variants",
        "list": "list the checkpoints that were exported into this program's cache",
        "rm": "remove them, or all that is in the cache",
        "triton": "write a model's folder for Triton Inference Server",
        "export": "convert a checkpoint to a bundle (needs the extra [export])",
    }
)
"""The purpose of each command.

The module of its name has its `add_arguments(parser)` and its `run(arguments)`, which may return an exit code.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    The result goes to standard output, and everything else to standard error.
    """
    with guarded():
        try:
            try:
                return _run(sys.argv[1:] if arguments is None else list(arguments))
            finally:
                sys.stdout.flush()  # a failure to write shows here, not at the interpreter's exit
        except KeyboardInterrupt:
            return INTERRUPTED
        except Unwritable as error:
            if not isinstance(error.__cause__, BrokenPipeError):  # the reader has gone
                say(f"standard output: {error}")
            return FAILED


def load(arguments: Sequence[str]) -> ModuleType | None:
    """Import and return the module of the command that comes first in `arguments`, if one does."""
    name = arguments[0] if arguments else ""
    return import_module(f"diffutron_ort.cli.{name}") if name in COMMANDS else None


def _run(arguments: Sequence[str]) -> int:
    command = f"{PROGRAM} {arguments[0]}" if arguments else PROGRAM
    try:
        module = load(arguments)
        if module is None:
            _show_commands(arguments)
        purpose = COMMANDS[arguments[0]]
        parser = Parser(prog=command, description=f"{purpose[0].upper()}{purpose[1:]}.")
        module.add_arguments(parser)
        code: int | None = module.run(parser.parse_args(arguments[1:]))
    except OptionError as error:
        say(f"{error}; see {command} --help")
        return WRONG_USAGE
    except Unwritable:
        raise
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        say(_message(error))
        return FAILED
    return DONE if code is None else code


def _show_commands(arguments: Sequence[str]) -> NoReturn:
    """Show the help or the version, or say what is wrong where a command should be, and exit."""
    parser = Parser(prog=PROGRAM, description="Generate Turkish text by masked diffusion.")
    parser.add_argument("--version", action="version", version=__version__)
    group = parser.add_subparsers(required=True, metavar="command")
    for name, purpose in COMMANDS.items():
        group.add_parser(name, help=purpose)
    if arguments:
        parser.parse_args(arguments)
    parser.error(f"give a command: {', '.join(COMMANDS)}")


def _message(error: Exception) -> str:
    """Return the message for an error."""
    match error:
        case DiffutronError():
            return str(error)
        case OSError(filename=name, strerror=reason) if name and reason:
            return f"{name}: {reason}"
        case OSError():
            return str(error) or type(error).__name__
        case MemoryError():
            return "out of memory: use a smaller variant or a shorter text"
    return f"{type(error).__name__}: {error}; this is a bug: python -X dev -m diffutron_ort shows where it comes from"


if __name__ == "__main__":
    sys.exit(program(main))
