"""The flags that the commands which score texts share."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from diffutron_ort.cli.parser import Parser, integer
from diffutron_ort.config import OPTION_NAMES, PRESETS
from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.options import OPTIONS, SAMPLES, ScoringOptions

IGNORED = (OPTION_NAMES - OPTIONS["policy"]) | {"temperature"}
"""The options of a generation that no method has; the temperature can only be 0."""


def add_scoring(parser: Parser, method: str, samples: int, *, windows: bool = True) -> None:
    """Add the flags; `method` and `samples` are the defaults, and long texts may have several `windows`."""
    what = "policy: as the sampler would write it; elbo: the bound that the model is trained on, estimated; pll: each "
    what += f"token given all others; pll_word_l2r: the same without the rest of its word (default: {method})"
    parser.add_argument("--method", choices=tuple(OPTIONS), default=method, help=what)
    each = "window" if windows else "answer"
    drawn = f"draws of masks for each {each}, with the method elbo; at least 2 (default: {samples})"
    parser.add_argument("--samples", metavar="N", type=integer, help=drawn)
    if windows:
        stride = "tokens that a window after the first scores, in a text that is longer than the model's context "
        parser.add_argument("--stride", metavar="N", type=integer, help=f"{stride}(default: half of that)")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="options to start from, with the method policy")


def scoring_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `scoring` that were given, other than options of a generation.

    Raises:
        OptionError: The samples are of another method.
    """
    if arguments.samples is not None and arguments.method != "elbo":
        raise OptionError(f"--samples is of the method elbo, and the method is {arguments.method}: leave it out")
    given = {name: getattr(arguments, name, None) for name in ("samples", "stride", "preset")}
    return {"method": arguments.method, **{name: value for name, value in given.items() if value is not None}}


def described(model: Diffutron, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how texts are scored, the defaults included: `how` has the arguments of `scoring`."""
    method, samples = how["method"], how.get("samples", SAMPLES)
    options = {name: value for name, value in how.items() if name in OPTION_NAMES}
    config = model.config(how.get("preset"), **({"temperature": 0.0} | options))
    length = model.bundle.context_length
    asked = ScoringOptions(method=method, config=config, context_length=length, stride=how.get("stride"))
    return {
        "method": method,
        "samples": samples if method == "elbo" else None,
        "stride": asked.window_stride,
        "preset": how.get("preset"),
        "options": {name: value for name, value in asdict(config).items() if name in OPTIONS[method]},
    }
