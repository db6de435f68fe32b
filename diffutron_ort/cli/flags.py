"""Flags that several commands share: which model, and how to generate."""

import argparse
from collections.abc import Sequence
from typing import Any

from diffutron_ort.cli.usage import filled, meant
from diffutron_ort.config import CHOICES, OPTION_NAMES, GenerationConfig
from diffutron_ort.runtime.session import PROVIDERS

HELP = {
    "steps": "denoising steps",
    "max_new_tokens": "length of the canvas after the prompt",
    "block_length": "positions denoised together",
    "temperature": "0 takes the best token",
    "repetition_penalty": "1 is none",
    "remasking": "which predictions are committed first",
    "stochastic_transfer": "draw how many masks a step commits",
    "cfg_scale": "classifier-free guidance, 0 is none",
    "cfg_keep_tokens": "ids the unconditional pass still sees",
    "schedule": "how fast masks are committed",
    "seed": "of all random choices",
    "stop": "a string that ends the answer",
    "early_end": "stop as soon as the answer is settled",
    "suppress_tokens": "ids that are never chosen",
    "penalty_exempt": "ids that the penalty spares",
    "cache": "block: after a block's first step compute it alone, approximately",
    "refresh_steps": "of a cache: compute everything every so many steps, 0 is never",
    "refresh_entropy": "of a cache: compute everything after a commit of more nats, 0 is never",
    "commit": "how many tokens a step commits: the schedule's number, or all that are sure by a rule",
    "commit_factor": "of the rule factor: larger commits more",
    "commit_entropy": "of the rule entropy, in nats: larger commits more",
}


def add_model(parser: argparse.ArgumentParser, name: str = "--model", **how: Any) -> None:
    """Add what `from_pretrained` takes; `name` is the model's."""
    group = parser.add_argument_group("model")
    group.add_argument(
        name, type=filled, help="a bundle's folder or a hub id (default: the embedded demonstration)", **how
    )
    group.add_argument("--revision", type=filled, help="commit, tag or branch of a hub id")
    group.add_argument("--variant", type=filled, help="which of the bundle's graphs (default: fp32)")
    group.add_argument(
        "--provider", type=_provider, action="append", metavar="NAME", help="cpu or cuda; may be given several times"
    )
    group.add_argument("--threads", type=int, help="within an operator (default: as many as may be used)")
    group.add_argument("--no-spin", dest="spin", action="store_false", help="let idle threads sleep, not turn")


def add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add the fields of `GenerationConfig` as flags; one that is not given is left to the preset and the bundle."""
    group = parser.add_argument_group("options")
    defaults = GenerationConfig()
    for name in names:
        flag, default = "--" + name.replace("_", "-"), getattr(defaults, name)
        common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": HELP[name]}
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif name == "stop":
            group.add_argument(flag, action="append", metavar="STRING", **common)
        elif isinstance(default, tuple):
            group.add_argument(flag, nargs="+", type=int, metavar="ID", **common)
        else:
            group.add_argument(flag, type=type(default), choices=CHOICES.get(name), **common)


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `GenerationConfig` that were given, each with a value that it can have.

    Raises:
        OptionError: One cannot; together they are checked when the bundle's own are known.
    """
    given = {name: value for name, value in vars(arguments).items() if name in OPTION_NAMES}
    for name, value in given.items():
        GenerationConfig(**{name: value})
    return given


def loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `from_pretrained`."""
    return {
        "model": arguments.model,
        "variant": arguments.variant,
        "providers": arguments.provider,
        "revision": arguments.revision,
        "threads": arguments.threads,
        "spin": arguments.spin,
    }


def _provider(name: str) -> str:
    if name not in PROVIDERS and not name.endswith("ExecutionProvider"):
        raise argparse.ArgumentTypeError(
            f"{name!r} is none of {', '.join(PROVIDERS)}, nor one of ONNX Runtime's names{meant(name, PROVIDERS)}"
        )
    return name
