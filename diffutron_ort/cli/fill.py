"""`diffutron-ort fill`: replace each `<mask>` in a text."""

import argparse

from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.reading import read_text
from diffutron_ort.model import FILL_IGNORES

DEFAULTS = {"steps": "one for each mask", "block_length": "the whole text", "repetition_penalty": "1.0"}
"""The defaults of `Diffutron.fill`, in words."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.text = "text"
    text = "a text with <mask>s, in quotes, after -- if it begins with a dash; - reads standard input (default: -)"
    parser.add_argument("text", nargs="?", default="-", help=text)
    add_model(parser)
    add_options(parser, FILL_IGNORES, DEFAULTS, "Each defaults to the model's value, then to the default shown.")


def run(arguments: argparse.Namespace) -> None:
    """Print the text, filled in."""
    options = given_options(arguments)
    text = read_text(arguments.text, "text")
    print(load_model(arguments, **options).fill(text, **options))
