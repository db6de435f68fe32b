"""The options of a generation: their names, defaults, bounds, choices and help, and the presets."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from itertools import islice
from types import MappingProxyType
from typing import Any, Self, TypeVar

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

MOST_STEPS = 2**16  # steps beyond the masks commit nothing, but are counted one by one
MOST_TOKENS = 2**31 - 1
MOST = 1000.0  # for every number that is not an integer: long before float32 overflows
MOST_IDS = 2**20  # in a list of ids: four times the largest vocabulary
MOST_STOPS = 1000
MOST_STOP = 10_000  # characters in a stop string: more than any answer has

Default = TypeVar("Default")


def option(
    default: Default,
    meaning: str,
    *,
    least: float | None = None,
    most: float | None = None,
    or_zero: bool = False,
    choices: tuple[str, ...] | None = None,
) -> Default:
    """Return a field of `GenerationConfig`; checks, flags and tables of options are made from its metadata.

    Args:
        default: The package's default.
        meaning: What the option does, for people: `metadata["help"]`.
        least: The smallest number allowed, for an integer, a number or each id of a list.
        most: The largest.
        or_zero: Whether 0 is allowed as well, below `least`.
        choices: The strings allowed.
    """
    allowed = {"least": least, "most": most, "or_zero": or_zero, "choices": choices}
    return field(default=default, metadata={"help": meaning, **allowed})


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """The options of one generation, named as in the reference sampler (dllm).

    An instance always holds valid values; derive another with `replace`. The defaults are the preset `short`.
    `diffutron-ort generate --help` explains each option.
    """

    steps: int = option(
        64,
        "denoising steps, shared among the blocks; steps with nothing to commit are skipped",
        least=1,
        most=MOST_STEPS,
    )
    max_new_tokens: int = option(
        64, "masks appended to the prompt: the most tokens an answer can have", least=1, most=MOST_TOKENS
    )
    block_length: int = option(
        32, "positions denoised together; blocks are finished from left to right", least=1, most=MOST_TOKENS
    )
    temperature: float = option(
        0.1,
        "divides the logits before a token is drawn; 0 takes the best token",
        least=0.01,  # below it exp(logit / temperature) says no more than the best token does
        most=MOST,
        or_zero=True,
    )
    repetition_penalty: float = option(
        1.2,
        "divides the positive and multiplies the negative logits of tokens on the canvas; 1 is none",
        least=1 / MOST,
        most=MOST,
    )
    remasking: str = option(
        "low_confidence",
        "which predictions are committed first: the most confident, or random ones",
        choices=("low_confidence", "random"),
    )
    stochastic_transfer: bool = option(
        False, "draw how many masks a step commits, instead of rounding the expected number"
    )
    cfg_scale: float = option(
        0.0,
        "scale of classifier-free guidance; 0 is none, anything else costs a second pass per step",
        least=0.0,
        most=MOST,
    )
    cfg_keep_tokens: tuple[int, ...] = option(
        (), "token ids that the unconditional pass of the guidance still sees", least=0, most=MOST_TOKENS
    )
    schedule: str = option("linear", "how fast masks are committed over the steps", choices=("linear", "cosine"))
    seed: int = option(0, "seed of all random choices; prompt i of a list uses seed + i", least=0, most=2**64 - 1)
    stop: tuple[str, ...] = option(
        (), "strings that end the answer; it is truncated at the start of whichever completes first"
    )
    early_end: bool = option(
        True, "stop as soon as the answer that is shown can no longer change; the text is the same"
    )
    suppress_tokens: tuple[int, ...] = option((), "token ids that are never chosen", least=0, most=MOST_TOKENS)
    penalty_exempt: tuple[int, ...] = option(
        (), "token ids exempt from the repetition penalty, besides <mask> and <eos>", least=0, most=MOST_TOKENS
    )
    cache: str = option(
        "none",
        "none: every pass computes every token (exact); block: after the first step of a block, passes compute only "
        "tokens that can have changed since (approximate)",
        choices=("none", "block"),
    )
    refresh_steps: int = option(
        0,
        "with a cache, compute every token again once the last full pass is this many steps old; 0 never does so "
        "within a block",
        least=0,
        most=MOST_STEPS,
    )
    refresh_entropy: float = option(
        0.0,
        "with a cache, compute every token again when a token was just committed with a larger entropy than this, "
        "in nats; 0 is never",
        least=0.0,
        most=MOST,
    )
    commit: str = option(
        "schedule",
        "how many tokens a step commits: as many as the schedule says, or more where the rule factor or entropy finds "
        "the predictions certain enough",
        choices=("schedule", "factor", "entropy"),
    )
    commit_factor: float = option(
        1.0,
        "for the rule factor: commit the n best predictions while n + 1 times the probability that the n-th is wrong "
        "is below this",
        least=0.0,
        most=MOST,
    )
    commit_entropy: float = option(
        0.1,
        "for the rule entropy, in nats: commit the n best predictions while the sum of their entropies without the "
        "largest is at most this",
        least=0.0,
        most=MOST,
    )

    def __post_init__(self) -> None:
        """Normalise and check every value.

        Raises:
            OptionError: A value is out of bounds or of the wrong type, or two contradict each other.
        """
        for spec in fields(self):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        if self.commit != "schedule" and self.remasking == "random":
            raise OptionError(
                f"commit={self.commit!r}: commits the most certain predictions, and remasking='random' commits others; "
                "choose commit='schedule' or remasking='low_confidence'"
            )

    def replace(self, **options: Any) -> Self:
        """Return a copy in which the given options have other values.

        Raises:
            OptionError: An option is unknown, or a value is not allowed.
        """
        if unknown := sorted(options.keys() - OPTION_NAMES):
            raise OptionError(
                f"unknown option {', '.join(map(brief, unknown))}: {_suggestion(unknown[0], KNOWN_AS, OPTION_NAMES)}"
                f"options are {', '.join(sorted(OPTION_NAMES))}"
            )
        return replace(self, **options)


OPTION_NAMES = frozenset(spec.name for spec in fields(GenerationConfig))

KNOWN_AS: Mapping[str, str] = MappingProxyType(
    {
        "presets": "preset",
        "max_tokens": "max_new_tokens",
        "max_length": "max_new_tokens",
        "max_completion_tokens": "max_new_tokens",
        "max_gen_toks": "max_new_tokens",
        "n_predict": "max_new_tokens",
        "gen_length": "max_new_tokens",
        "num_steps": "steps",
        "num_inference_steps": "steps",
        "diffusion_steps": "steps",
        "block_size": "block_length",
        "temp": "temperature",
        "top_p": "temperature",
        "top_k": "temperature",
        "min_p": "temperature",
        "do_sample": "temperature",
        "penalty": "repetition_penalty",
        "repeat_penalty": "repetition_penalty",
        "frequency_penalty": "repetition_penalty",
        "presence_penalty": "repetition_penalty",
        "cfg": "cfg_scale",
        "guidance_scale": "cfg_scale",
        "random_seed": "seed",
        "random_state": "seed",
        "stop_strings": "stop",
        "stop_sequences": "stop",
        "until": "stop",
        "early_stopping": "early_end",
        "bad_words_ids": "suppress_tokens",
        "use_cache": "cache",
    }
)
"""Other programs' names for these options, and the nearest option here to some that only they have."""


def _suggestion(name: str, others: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the question whether the nearest of `names` was meant, or nothing if none is near."""
    from difflib import get_close_matches  # only an error needs it

    asked = name[:80].lower().replace("-", "_")
    near = [others[asked]] if asked in others else get_close_matches(asked, sorted(names), 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _integer(spec: Field[Any], value: Any) -> int:
    least, most = spec.metadata["least"], spec.metadata["most"]
    try:
        # JSON has one type of number, so 64.0 is an integer as well.
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise OptionError(f"{spec.name}={brief(value)}: must be an integer from {least} to {most}")
    return number


def _number(spec: Field[Any], value: Any) -> float:
    least, most, or_zero = (spec.metadata[name] for name in ("least", "most", "or_zero"))
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (least <= number <= most or (or_zero and number == 0)):  # NaN is in no range
        also = ", or 0" if or_zero else ""
        raise OptionError(f"{spec.name}={brief(value)}: must be a finite number from {least:g} to {most:g}{also}")
    return number


def _flag(spec: Field[Any], value: Any) -> bool:
    return _one_of(spec.name, value, (True, False))


def _choice(spec: Field[Any], value: Any) -> str:
    choices: tuple[str, ...] = spec.metadata["choices"]
    return _one_of(spec.name, value, choices)


def _one_of(name: str, value: Any, allowed: tuple[Default, ...]) -> Default:
    if type(value) is not type(allowed[0]) or value not in allowed:
        names = [name for name in allowed if isinstance(name, str)]
        near = _suggestion(value, {}, names) if isinstance(value, str) else ""
        raise OptionError(f"{name}={brief(value)}: {near}must be one of {', '.join(map(repr, allowed))}")
    return value


def _ids(spec: Field[Any], value: Any) -> tuple[int, ...]:
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise OptionError(f"{spec.name}={brief(value)}: must be a list of token ids")
    ids = tuple(islice(value, MOST_IDS + 1))
    if len(ids) > MOST_IDS:
        raise OptionError(
            f"{spec.name} holds more than {MOST_IDS} ids, and no vocabulary is that large; list each once"
        )
    return tuple(_integer(spec, item) for item in ids)


def _strings(spec: Field[Any], value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise OptionError(f"{spec.name}={brief(value)}: must be a list of strings")
    strings = tuple(islice(value, MOST_STOPS + 1))
    if len(strings) > MOST_STOPS or any(isinstance(item, str) and len(item) > MOST_STOP for item in strings):
        raise OptionError(
            f"{spec.name}={brief(value)}: must hold at most {MOST_STOPS} strings of at most {MOST_STOP} characters"
        )
    if not all(isinstance(item, str) and item and _is_unicode(item) for item in strings):
        raise OptionError(f"{spec.name}={brief(value)}: must hold strings of valid Unicode that are not empty")
    return strings


def _is_unicode(text: str) -> bool:
    """Return whether `text` is free of lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8") == text


_CHECKS: Mapping[Any, Callable[[Field[Any], Any], object]] = MappingProxyType(
    {
        int: _integer,
        float: _number,
        bool: _flag,
        str: _choice,
        tuple[int, ...]: _ids,
        tuple[str, ...]: _strings,
    }
)
"""The check for each type of field: it returns the value normalised, or raises `OptionError`."""


def checked(spec: Field[Any], value: Any, kind: Any = None) -> object:
    """Return the value of a field made by `option`, normalised.

    Args:
        spec: The field.
        value: What it is to be.
        kind: The type to check for, where it is not the field's own.

    Raises:
        OptionError: It is out of bounds or of the wrong type.
    """
    return _CHECKS[kind or spec.type](spec, value)


PRESET_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "short": {"steps": 64, "max_new_tokens": 64, "block_length": 32},  # the model card's "shorter context"
        "long": {"steps": 128, "max_new_tokens": 128, "block_length": 32},  # and its "longer context"
        # Approximate. Where nano is unsure: 10 times less arithmetic, 89 % of the texts unchanged, exact
        # match 0.4 points lower. With `entropy` at 0.1: 18 times, 70 %, 4.2 points. Without refreshing: 83 % unchanged.
        "fast": {"cache": "block", "refresh_steps": 4, "commit": "factor", "commit_factor": 0.01},
    }
)
"""The options that each preset sets, over the bundle's own.

The others, such as temperature and penalty, stay as the bundle has them: they are what its model answers well with.
"""

PRESETS: Mapping[str, GenerationConfig] = MappingProxyType(
    {name: GenerationConfig(**options) for name, options in PRESET_OPTIONS.items()}
)
"""Each preset over the package's defaults."""


def preset(name: str) -> GenerationConfig:
    """Return the preset called `name`, over the package's defaults.

    Raises:
        OptionError: There is no such preset.
    """
    return GenerationConfig(**preset_options(name))


def preset_options(name: str) -> Mapping[str, Any]:
    """Return the options that the preset called `name` sets.

    Raises:
        OptionError: There is no such preset.
    """
    _one_of("preset", name, tuple(PRESET_OPTIONS))
    return PRESET_OPTIONS[name]
