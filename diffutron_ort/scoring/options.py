"""The options of a scoring: their bounds, and which have a meaning for which method."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import OptionError

SAMPLES, MOST_SAMPLES = 128, 2**16
OF_A_GENERATION = frozenset({"max_new_tokens", "stop", "early_end"})  # what has no meaning where the tokens are given
OPTIONS: Mapping[str, frozenset[str]] = {
    "policy": OPTION_NAMES - OF_A_GENERATION | {"preset"},
    "elbo": frozenset({"seed"}),
    "pll": frozenset({"seed"}),
    "pll_word_l2r": frozenset({"seed"}),
}
"""The methods, and the options of a generation that each accepts; the seed has an effect where something is drawn."""

NO_PENALTY: Mapping[str, Any] = MappingProxyType({"repetition_penalty": 1.0})
"""What replaces the model's own options where a text should not pay for saying a word twice."""


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How texts are scored.

    Attributes:
        method: A key of `OPTIONS`.
        config: The options of the sampler, for the method `policy`.
        context_length: The most tokens of a window.
        samples: Of the method `elbo`; at least 2.
        stride: The most tokens that a window after the first scores; None is half of `context_length`.
    """

    method: str
    config: GenerationConfig
    context_length: int
    samples: int = SAMPLES
    stride: int | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            OptionError: One is not allowed.
        """
        _check_integer("samples", self.samples, 2, MOST_SAMPLES)
        _check_integer("stride", self.window_stride, 1, self.context_length)

    @property
    def window_stride(self) -> int:
        """The most tokens that a window after the first scores."""
        return max(1, self.context_length // 2) if self.stride is None else self.stride


def unpenalised(method: object) -> dict[str, Any]:
    """Return the options of `NO_PENALTY` that have a meaning for a method."""
    return dict(NO_PENALTY) if method == "policy" else {}


def check_meaning(method: object, options: Mapping[str, Any]) -> None:
    """Refuse options of a generation that a method would not heed; unknown ones are left to `GenerationConfig`.

    Raises:
        OptionError: There is one, or there is no such method.
    """
    if not isinstance(method, str) or method not in OPTIONS:
        raise OptionError(f"method={brief(method)}: must be one of {', '.join(OPTIONS)}")
    useless = sorted((options.keys() & (OPTION_NAMES | {"preset"})) - OPTIONS[method])
    if useless:
        raise OptionError(f"{', '.join(useless)}: of no meaning for the method {method!r}; leave it out")
    if options.get("temperature", 0) != 0:
        raise OptionError(
            f"temperature={brief(options['temperature'])}: must be 0; the likelihood is exact only where the order of "
            "the tokens does not depend on what is drawn"
        )


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"{name}={brief(value)}: must be an integer from {least} to {most}")
