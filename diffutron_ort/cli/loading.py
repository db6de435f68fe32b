"""Load the model that the flags ask for."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.locate import locate
from diffutron_ort.cli.terminal import say
from diffutron_ort.model import Diffutron
from diffutron_ort.types import Progress

REAL = "diffutron/DiffutronLM-0.3B-Instruct"
KNOWS = "no model given, so the embedded demonstration answers; it knows thirteen kinds of exercises and nothing else"


def demonstration(real: str = f"--model {REAL}") -> str:
    """Return what is said where no model was given; `real` says how to ask for the real one."""
    return f"{KNOWS}. The real model: {real}"


def load_model(
    arguments: argparse.Namespace, preset: str | None = None, *, real: str = f"--model {REAL}", **options: Any
) -> Diffutron:
    """Load the model, check that it can take `options`, and say so if it is the embedded one, as `demonstration`."""
    with shown_if_slow() as progress:
        model = Diffutron.from_pretrained(**loading_arguments(arguments), progress=progress)
    model.config(preset, **options)
    if arguments.model is None:
        say(demonstration(real))
    return model


def located(model: str | None, revision: str | None = None, variant: str | None = None) -> Path:
    """Return the folder of a bundle as `locate` does, and show its progress."""
    with shown_if_slow() as progress:
        return locate(model, revision, variant, progress)


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


@contextmanager
def shown_if_slow() -> Iterator[Progress]:
    """Yield a report for what may be done at once: nothing is imported or drawn until it is called.

    From then on, what libraries print goes to standard error.
    """
    with ExitStack() as stack:
        opened: list[Progress] = []

        def report(stage: str, done: float) -> None:
            if not opened:
                from diffutron_ort.cli.progress import progress

                stack.enter_context(redirect_stdout(sys.stderr))
                opened.append(stack.enter_context(progress()))
            opened[0](stage, done)

        yield report
