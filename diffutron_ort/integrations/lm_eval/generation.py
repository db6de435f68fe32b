"""What a task says about how an answer is generated, as options of the model."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.config import OPTION_NAMES
from diffutron_ort.errors import DiffutronWarning, OptionError

SAMPLED = 1.0  # the temperature of a task that samples and names none, as in transformers
OWN = ("until", "max_gen_toks", "do_sample", "temperature")  # what a task can say, besides names of our options


def generation_options(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a task's `generation_kwargs` ask for.

    Args:
        given: `until` (a string or several), `max_gen_toks`, `do_sample`, `temperature`, `seed`, and any other option
            of `GenerationConfig`. What no diffusion sampler has, such as `top_p`, is ignored, with a warning.
        defaults: Options that hold where the task says nothing. Without `steps` here or there, as many are taken as
            there are tokens, so that each step commits one.

    Raises:
        OptionError: `max_gen_toks` is not a positive integer, or `until` holds something else than strings.
    """
    options = {**defaults, **{name: value for name, value in given.items() if name in OPTION_NAMES}}
    options["temperature"] = _temperature(given)
    options["stop"] = ends(stops(given))
    if "max_gen_toks" in given:
        options["max_new_tokens"] = _tokens(given["max_gen_toks"])
    options.setdefault("steps", options["max_new_tokens"])
    if ignored := sorted(given.keys() - OPTION_NAMES - {*OWN}):
        message = f"{', '.join(map(brief, ignored))}: a diffusion sampler has no such option, so it is ignored"
        warnings.warn(message, DiffutronWarning, stacklevel=2)
    return options


def _temperature(given: Mapping[str, Any]) -> Any:
    """Return the temperature: 0 unless the task samples."""
    temperature = given.get("temperature")
    if given.get("do_sample", bool(temperature)):
        return SAMPLED if temperature is None else temperature
    return 0.0


def stops(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the strings of `until`.

    Raises:
        OptionError: It holds something else.
    """
    until = given.get("until")
    strings = [until] if isinstance(until, str) else until or []
    if not isinstance(strings, list | tuple) or not all(isinstance(string, str) for string in strings):
        raise OptionError(f"until={brief(until)}: must be a string, or a list of strings")
    return tuple(string for string in strings if string)


def ends(until: Sequence[str]) -> tuple[str, ...]:
    """Return the strings at which a generation may end.

    One that can stand inside another may not: the text after it may complete the other, which begins before.
    """
    return tuple(string for string in until if not any(string in other[1:] for other in until))


def before_stops(text: str, until: Sequence[str]) -> str:
    """Return a text up to where the first of the strings begins, not the first that is complete."""
    return text[: min((place for string in until if (place := text.find(string)) >= 0), default=len(text))]


def _tokens(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise OptionError(f"max_gen_toks={brief(given)}: must be an integer from 1")
    return given
