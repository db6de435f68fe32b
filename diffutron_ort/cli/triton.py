"""`diffutron-ort triton`: write a model's folder for Triton Inference Server, which `diffutron_ort_export` does."""

import argparse
from importlib import import_module

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.cli.flags import MODEL, REVISION, VARIANT
from diffutron_ort.cli.loading import located
from diffutron_ort.cli.parser import Parser, filled

OUT = "folder of the model in Triton's model repository; must be free, or an empty directory"


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", type=filled, help=MODEL.partition(" (default")[0])
    parser.add_argument("out", type=filled, help=OUT)
    parser.add_argument("--revision", type=filled, help=REVISION)
    parser.add_argument("--variant", type=filled, help=VARIANT)


def run(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    folder = located(arguments.model, arguments.revision, arguments.variant)
    exporter = import_module("diffutron_ort_export.triton")
    exporter.write_model(load_bundle(folder, variant=arguments.variant), arguments.out, arguments.variant)
