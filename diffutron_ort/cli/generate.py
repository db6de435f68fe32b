"""`diffutron-ort generate`: answer a prompt, or a file of them."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from diffutron_ort.cli.bulk_flags import add_bulk, check_bulk
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser, filled, integer
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.writing import check_writable, print_json
from diffutron_ort.completion import Completion
from diffutron_ort.config import PRESETS, GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Step


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.text = "prompt"
    prompt = "the question, in quotes, after -- if it begins with a dash; - reads standard input (default: -)"
    parser.add_argument("prompt", nargs="?", default="-", help=prompt)
    preset = "options to start from (default: the model's own, and short)"
    parser.add_argument("--preset", choices=tuple(PRESETS), help=preset)
    parser.add_argument("--no-template", dest="template", action="store_false", help="continue the prompt as raw text")
    best = "write so many answers, and print the one that the model is surest of when it reads it again"
    parser.add_argument("--best-of", metavar="N", type=integer, help=best)
    parser.add_argument("--show-steps", action="store_true", help="show the canvas at every step, on standard error")
    parser.add_argument("--svg", metavar="FILE", type=filled, help="write the steps as an animated picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    add_bulk(parser)
    add_model(parser)
    add_options(parser)


def run(arguments: argparse.Namespace) -> int | None:
    """Answer a prompt or a file, and return the exit code."""
    options = given_options(arguments)
    if check_bulk(arguments):
        from diffutron_ort.cli.bulk import run_bulk  # which the answer to a prompt does not need

        return run_bulk(arguments, options)
    if arguments.best_of is not None and (arguments.svg or arguments.show_steps):
        raise OptionError("--best-of writes several answers: leave it out to see the steps of one")
    _answer(arguments, options)
    return None


def _answer(arguments: argparse.Namespace, options: Mapping[str, Any]) -> None:
    """Print the answer, or everything about it as JSON, and write its picture."""
    if arguments.svg:
        check_writable(arguments.svg)
    prompt = read_text(arguments.prompt, "prompt")
    model = load_model(arguments, arguments.preset, **options)
    how = {"template": arguments.template, "preset": arguments.preset, **options}
    begun = time.perf_counter()
    if arguments.best_of is None:
        steps = list(_shown(model.stream(prompt, **how), model, arguments.show_steps))
        completion = Completion.of(steps)
    else:
        steps, completion = [], model.complete(prompt, best_of=arguments.best_of, self_confidence=True, **how)
    seconds = time.perf_counter() - begun
    if arguments.json:
        config = model.config(arguments.preset, **options)
        print_json(_result(completion, seconds, model.bundle.source, config))
    else:
        print(completion.text, flush=True)  # before the picture, which may go to the same file
    if arguments.svg:
        from diffutron_ort.cli.svg import write_svg

        write_svg(arguments.svg, steps, model, prompt)


def _shown(steps: Iterator[Step], model: Diffutron, show_steps: bool) -> Iterator[Step]:
    """Return `steps`, which show themselves on standard error as they are taken if `show_steps` is set."""
    if not show_steps:
        return steps
    from diffutron_ort.cli.live import show

    return show(steps, model, sys.stderr)


def _result(
    completion: Completion, seconds: float, source: Mapping[str, Any], config: GenerationConfig
) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        **{spec.name: getattr(completion, spec.name) for spec in fields(completion)},
        "ids": completion.ids.tolist(),
        "passes": completion.passes._asdict(),
        "seconds": round(seconds, 4),
        "model": dict(source),
        "options": asdict(config),
    }
