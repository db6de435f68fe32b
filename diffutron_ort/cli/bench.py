"""`diffutron-ort bench`: measure how fast a model runs on this machine."""

import argparse

from diffutron_ort.checks import bench
from diffutron_ort.cli.flags import add_model
from diffutron_ort.cli.loading import REAL, load_model, loading_arguments
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.writing import print_json


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    add_model(parser, "model", nargs="?")


def run(arguments: argparse.Namespace) -> None:
    """Print what was measured."""
    model = load_model(arguments, real=f"diffutron-ort bench {REAL}")
    found = {"model": str(model.bundle.folder), "revision": None}  # the processes that it starts need not ask the Hub
    report = bench.bench(model, loading_arguments(arguments) | found)
    if arguments.json:
        print_json(report)
    else:
        print(bench.table(report))
