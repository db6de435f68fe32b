"""Load the model that the flags ask for."""

import argparse
from typing import Any

from diffutron_ort.cli.terminal import say
from diffutron_ort.model import Diffutron

DEMONSTRATION = (
    "no model given, so the embedded demonstration answers; it knows thirteen kinds of exercises and nothing else. "
    "The real model: diffutron-ort export diffutron/DiffutronLM-0.3B-Instruct FOLDER"
)


def load_model(arguments: argparse.Namespace, preset: str | None = None, **options: Any) -> Diffutron:
    """Load the model, check that it can take `options`, and say so if it is the embedded one."""
    model = Diffutron.from_pretrained(**loading_arguments(arguments))
    model.config(preset, **options)
    if arguments.model is None:
        say(DEMONSTRATION)
    return model


def loading_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `from_pretrained`."""
    return {
        "model": arguments.model,
        "variant": arguments.variant,
        "providers": arguments.provider,
        "revision": arguments.revision,
        "threads": arguments.threads,
        "spin": arguments.spin,
    }
