"""The slots of a template, as flags and a file give them."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.cli.parser import meant
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.files import Artifact, read_object
from diffutron_ort.slots.bounds import PATTERNS

SLOT = "NAME=WHAT"
FORM = (
    "what may stand in a place {{NAME}}: a pattern such as digits, options such as evet|hayır, a list of options in "
    "JSON such as [true,false], or a /regular expression/; a pattern can end in :3 or :1-4, its numbers of tokens (may "
    "be given several times)"
)
FILE = "a JSON object with the bounds of each slot by its name"
RANGE = re.compile(r"(.*?)(?::(\d+)(?:-(\d+))?)?", re.DOTALL)
BOUNDS = Artifact(InputError, InputError, 'write one object, such as {"city": {"pattern": "word", "most": 4}}')
MOST_BYTES = 2**20


def add_slots(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a template."""
    group = parser.add_argument_group("template", "Instead of masks, the text then has places such as {{city}}.")
    group.add_argument("--slot", action="append", type=slot, metavar=SLOT, default=[], help=FORM)
    group.add_argument("--slots", type=Path, metavar="FILE", help=FILE)
    group.add_argument("--prompt", help="what the template is the answer to")
    group.add_argument("--json", action="store_true", help="print the text, values and probabilities as a JSON object")


def slot(text: str) -> tuple[str, Any]:
    """Return the name and the bounds of a slot, for `type=`."""
    name, equals, what = text.partition("=")
    if not name or (equals and not what):
        raise argparse.ArgumentTypeError(f"{brief(text)} is no slot: write {SLOT}, such as city=word:1-4")
    return name.strip(), _bounds(what) if equals else "text"


def _bounds(what: str) -> Any:
    """Return the bounds that a flag gives."""
    if what.startswith("["):
        return _listed(what)
    found = RANGE.fullmatch(what)
    assert found is not None, "every text is a pattern with or without a range"
    pattern, least, most = found.groups()
    is_expression = len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/")
    if "|" in what and not is_expression:
        return what.split("|")
    if not is_expression and pattern not in PATTERNS:
        likely = meant(pattern, PATTERNS)
        raise argparse.ArgumentTypeError(
            f"{brief(pattern)} is no pattern{likely}: they are {', '.join(PATTERNS)}; an expression stands between /, "
            "and options have | between them"
        )
    bounds: dict[str, Any] = {"pattern": pattern[1:-1] if is_expression else pattern}
    return bounds | ({"least": int(least), "most": int(most or least)} if least else {})


def _listed(what: str) -> list[Any]:
    try:
        options = json.loads(what)
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{brief(what)} is no list in JSON, such as [true,false]") from None
    return list(options)


def given_slots(arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Return the bounds of all slots by name; None if there is none, and the text is one with masks.

    Raises:
        OptionError: A slot is given twice, or another flag has no meaning without slots.
        InputError: The file cannot be read, or is no JSON object.
    """
    pairs: Sequence[tuple[str, Any]] = arguments.slot
    found = dict(read_object(arguments.slots, BOUNDS, MOST_BYTES).values) if arguments.slots else {}
    for name, bounds in pairs:
        if name in found:
            raise OptionError(f"slot {brief(name)} is given twice: leave one out")
        found[name] = bounds
    if found or arguments.slots:
        return found
    for flag in ("prompt", "json"):
        if getattr(arguments, flag):
            raise OptionError(f"--{flag}: of no meaning without slots; add --slot {SLOT}")
    return None
