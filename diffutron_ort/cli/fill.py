"""`diffutron-ort fill`: replace each `<mask>` in a text, or write values into the slots of a template."""

import argparse
import json
from typing import TYPE_CHECKING

from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.slots import add_slots, given_slots
from diffutron_ort.cli.working import worked
from diffutron_ort.model import FILL_IGNORES

if TYPE_CHECKING:
    from diffutron_ort.scoring.work import Work
    from diffutron_ort.slots.filling import Filled

DEFAULTS = {"steps": "one for each mask", "block_length": "the whole text", "repetition_penalty": "1.0"}
"""The defaults of `Diffutron.fill`, in words."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.text = "text"
    text = (
        "a text with <mask>s, or a template with places such as {{city}}, in quotes, after -- if it begins with a "
        "dash; - reads standard input (default: -)"
    )
    parser.add_argument("text", nargs="?", default="-", help=text)
    add_slots(parser)
    add_model(parser)
    words = (
        "Each defaults to the model's value, then to the default shown. A template takes --steps, --temperature and "
        "--seed alone."
    )
    add_options(parser, FILL_IGNORES, DEFAULTS, words)


def run(arguments: argparse.Namespace) -> None:
    """Print the text, filled in."""
    options, slots = given_options(arguments), given_slots(arguments)
    text = read_text(arguments.text, "text")
    model = load_model(arguments, **options)
    if slots is None:
        print(model.fill(text, **options))
    else:
        _print(model.filling(text, slots, prompt=arguments.prompt, **options), arguments.json)


def _print(work: "Work[Filled]", as_json: bool) -> None:
    """Do the work of filling a template, and print what it comes to."""
    filled = worked(work, "fill")
    if not as_json:
        print(filled.text)
        return
    told = ("text", "values", "probabilities", "data", "passes")
    print(json.dumps({name: getattr(filled, name) for name in told}, ensure_ascii=False))
