"""`diffutron-ort generate`: answer a prompt."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.writing import check_writable, print_json
from diffutron_ort.config import PRESETS, GenerationConfig
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
    parser.add_argument("--show-steps", action="store_true", help="show the canvas at every step, on standard error")
    parser.add_argument("--svg", metavar="FILE", type=filled, help="write the steps as an animated picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    add_model(parser)
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the answer, or all that is known of it as JSON, and write its picture."""
    options = given_options(arguments)
    if arguments.svg:
        check_writable(arguments.svg)
    prompt = read_text(arguments.prompt, "prompt")
    model = load_model(arguments, arguments.preset, **options)
    begun = time.perf_counter()
    steps = model.stream(prompt, template=arguments.template, preset=arguments.preset, **options)
    if arguments.show_steps:
        from diffutron_ort.cli.live import show

        steps = show(steps, model, sys.stderr)
    taken = list(steps)
    seconds = time.perf_counter() - begun
    if arguments.json:
        print_json(_result(model, model.config(arguments.preset, **options), taken, seconds))
    else:
        print(taken[-1].text, flush=True)  # before the picture, which may go to the same file
    if arguments.svg:
        from diffutron_ort.cli.svg import write_svg

        write_svg(arguments.svg, taken, model, prompt)


def _result(model: Diffutron, config: GenerationConfig, steps: Sequence[Step], seconds: float) -> dict[str, object]:
    last = steps[-1]
    return {
        "text": last.text,
        "ids": last.ids[last.start :].tolist(),
        "steps": len(steps),
        "passes": _passes(steps),
        "masks_left": last.masks_left,
        "seconds": round(seconds, 4),
        "model": dict(model.bundle.source),
        "options": asdict(config),
    }


def _passes(steps: Sequence[Step]) -> dict[str, int]:
    """Return the number of full and of cached passes, and of the tokens that they computed and predicted in all."""
    full = sum(step.is_full for step in steps)
    computed = sum(step.num_computed for step in steps)
    predicted = sum(step.num_predicted for step in steps)
    return {"full": full, "cached": len(steps) - full, "computed": computed, "predicted": predicted}
