"""How to generate: the one home of every option's name, default, bounds and preset."""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from types import MappingProxyType
from typing import Any, Self

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

REMASKING = ("low_confidence", "random")
SCHEDULES = ("linear", "cosine")
CACHES = ("none", "block")
COMMITS = ("schedule", "factor", "entropy")
LEAST_TEMPERATURE = 0.01  # below it exp(logit / temperature) says no more than the best token does
MOST_STEPS = 2**16  # steps beyond the masks commit nothing, but are counted one by one
MOST = 1000.0  # of every number that is no integer: long before float32 overflows
MOST_IDS = 2**20  # of a list of ids: four times the largest vocabulary
MOST_STOPS = 1000
MOST_STOP = 10_000  # characters of a stop string: more than any answer has
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"remasking": REMASKING, "schedule": SCHEDULES, "cache": CACHES, "commit": COMMITS}
)
LEAST: Mapping[str, float] = MappingProxyType(
    {
        "temperature": 0.0,
        "repetition_penalty": 1 / MOST,
        "cfg_scale": 0.0,
        "refresh_entropy": 0.0,
        "commit_factor": 0.0,
        "commit_entropy": 0.0,
    }
)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """The options of one generation, with the names of the reference sampler (dllm's).

    An instance always holds meaningful values; derive another with `replace`. The defaults are the preset `short`.

    Attributes:
        steps: Denoising steps, at most 65536, shared among the blocks by ceiling. Those that would commit nothing are
            left out.
        max_new_tokens: Masks that are put after the prompt.
        block_length: Positions that are denoised together, from left to right.
        temperature: Divides the logits before a token is drawn; 0 takes the best token.
        repetition_penalty: Divides the positive and multiplies the negative logits of tokens that the canvas holds.
        remasking: Which predictions are committed first: the most confident, or random ones.
        stochastic_transfer: Draw how many masks a step commits instead of rounding the expected number.
        cfg_scale: Classifier-free guidance; 0 is none, and anything more costs a second pass a step.
        cfg_keep_tokens: Ids that the unconditional pass still sees.
        schedule: How fast masks are committed: `linear` or `cosine`.
        seed: Of all random choices, 0 to 2**64 - 1; prompt i of a list has seed + i.
        stop: Strings that end the answer. It is cut where the one that is complete first begins.
        early_end: Stop as soon as the shown answer is settled. The text is the same.
        suppress_tokens: Ids that are never chosen.
        penalty_exempt: Ids that the repetition penalty spares, besides `<mask>` and `<eos>`.
        cache: What a step computes: every token (`none`, exact), or after a block's first step only the tokens that
            can have changed since, against the keys and values of the others as they were (`block`, approximate).
        refresh_steps: Of a cache: every token is computed again once its last full pass is so many steps old; 1 makes
            every pass a full one, 0 never asks for another in a block.
        refresh_entropy: Of a cache, in nats: every token is computed again when the largest entropy of the tokens that
            were just committed exceeds it; 0 is never.
        commit: How many tokens a step commits: as many as the `schedule` says, or at least as many, and more where
            the predictions are sure enough by the rule `factor` or `entropy`.
        commit_factor: Of `factor`: commits the n best while (n + 1) times the probability that the n-th is wrong is
            below it.
        commit_entropy: Of `entropy`, in nats: commits the n best while the sum of their entropies less the largest is
            at most it.
    """

    steps: int = 64
    max_new_tokens: int = 64
    block_length: int = 32
    temperature: float = 0.1
    repetition_penalty: float = 1.2
    remasking: str = "low_confidence"
    stochastic_transfer: bool = False
    cfg_scale: float = 0.0
    cfg_keep_tokens: tuple[int, ...] = ()
    schedule: str = "linear"
    seed: int = 0
    stop: tuple[str, ...] = ()
    early_end: bool = True
    suppress_tokens: tuple[int, ...] = ()
    penalty_exempt: tuple[int, ...] = ()
    cache: str = "none"
    refresh_steps: int = 0
    refresh_entropy: float = 0.0
    commit: str = "schedule"
    commit_factor: float = 1.0
    commit_entropy: float = 0.1

    def __post_init__(self) -> None:
        """Normalise every value and refuse those without a meaning.

        Raises:
            OptionError: A value is out of bounds or of another type, or two have no meaning together.
        """
        for name, most in (("steps", MOST_STEPS), ("max_new_tokens", 2**31 - 1), ("block_length", 2**31 - 1)):
            self._set(name, _integer(name, getattr(self, name), 1, most))
        self._set("seed", _integer("seed", self.seed, 0, 2**64 - 1))
        self._set("refresh_steps", _integer("refresh_steps", self.refresh_steps, 0, MOST_STEPS))
        for name, least in LEAST.items():
            self._set(name, _number(name, getattr(self, name), least))
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise OptionError(f"temperature={self.temperature}: must be 0 or at least {LEAST_TEMPERATURE}")
        for name, allowed in CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        for name in ("stochastic_transfer", "early_end"):
            _one_of(name, getattr(self, name), (True, False))
        for name in ("cfg_keep_tokens", "suppress_tokens", "penalty_exempt"):
            self._set(name, _ids(name, getattr(self, name)))
        self._set("stop", _strings("stop", self.stop))
        if self.commit != "schedule" and self.remasking == "random":
            raise OptionError(
                f"commit={self.commit!r}: counts the most certain tokens, and remasking='random' commits others; "
                "choose commit='schedule' or remasking='low_confidence'"
            )

    def replace(self, **options: Any) -> Self:
        """Return a copy in which the given options have other values.

        Raises:
            OptionError: A name is not an option's, or a value is not allowed.
        """
        if unknown := sorted(options.keys() - OPTION_NAMES):
            raise OptionError(
                f"unknown option {', '.join(map(brief, unknown))}: {_suggestion(unknown[0], KNOWN_AS, OPTION_NAMES)}"
                f"options are {', '.join(sorted(OPTION_NAMES))}"
            )
        return replace(self, **options)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


OPTION_NAMES = frozenset(field.name for field in fields(GenerationConfig))

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
"""What other programs call an option, and what is nearest to options of theirs that are not here."""


def _suggestion(name: str, others: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the question whether one of `names` was meant, or nothing where none is near."""
    from difflib import get_close_matches  # here, for it is needed only where something is wrong

    asked = name[:80].lower().replace("-", "_")
    near = [others[asked]] if asked in others else get_close_matches(asked, sorted(names), 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _integer(name: str, value: Any, least: int, most: int) -> int:
    try:
        # JSON has one kind of number, so 64.0 is an integer, too.
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise OptionError(f"{name}={brief(value)}: must be an integer from {least} to {most}")
    return number


def _number(name: str, value: Any, least: float) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= MOST:  # NaN is in no range
        raise OptionError(f"{name}={brief(value)}: must be a finite number from {least:g} to {MOST:g}")
    return number


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if type(value) is not type(allowed[0]) or value not in allowed:
        near = _suggestion(value, {}, allowed) if isinstance(value, str) and isinstance(allowed[0], str) else ""
        raise OptionError(f"{name}={brief(value)}: {near}must be one of {', '.join(map(repr, allowed))}")


def _ids(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise OptionError(f"{name}={brief(value)}: must be a list of token ids")
    ids = tuple(islice(value, MOST_IDS + 1))
    if len(ids) > MOST_IDS:
        raise OptionError(f"{name} holds more than {MOST_IDS} ids: no vocabulary has as many; give each once")
    return tuple(_integer(name, item, 0, 2**31 - 1) for item in ids)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable):
        raise OptionError(f"{name}={brief(value)}: must be a list of strings")
    strings = tuple(islice(value, MOST_STOPS + 1))
    if len(strings) > MOST_STOPS or any(isinstance(item, str) and len(item) > MOST_STOP for item in strings):
        raise OptionError(
            f"{name}={brief(value)}: must hold at most {MOST_STOPS} strings of at most {MOST_STOP} characters"
        )
    if not all(isinstance(item, str) and item and _is_unicode(item) for item in strings):
        raise OptionError(f"{name}={brief(value)}: must hold strings of valid Unicode that are not empty")
    return strings


def _is_unicode(text: str) -> bool:
    """Return whether `text` is free of lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8") == text


PRESET_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "short": {"steps": 64, "max_new_tokens": 64, "block_length": 32},  # the model card's "shorter context"
        "long": {"steps": 128, "max_new_tokens": 128, "block_length": 32},  # and its "longer context"
        # Approximate: where nano is unsure, 10 times less arithmetic, 89 % of the texts the same, 0.4 points of exact
        # match lost; `entropy` at 0.1: 18 times, 70 %, 4.2 points; never refreshed: 83 % of the texts.
        "fast": {"cache": "block", "refresh_steps": 4, "commit": "factor", "commit_factor": 0.01},
    }
)
"""What each preset is about: a preset that is named sets these and nothing else, also over a bundle's own options.

What a model answers well at, like its temperature and penalty, is the bundle's to say, and stays as it says.
"""

PRESETS: Mapping[str, GenerationConfig] = MappingProxyType(
    {name: GenerationConfig(**options) for name, options in PRESET_OPTIONS.items()}
)
"""Each preset over the package's defaults."""


def preset(name: str) -> GenerationConfig:
    """Return the preset called `name`, over the package's defaults.

    Raises:
        OptionError: There is none of that name.
    """
    return GenerationConfig(**preset_options(name))


def preset_options(name: str) -> Mapping[str, Any]:
    """Return the options that the preset called `name` sets.

    Raises:
        OptionError: There is none of that name.
    """
    _one_of("preset", name, tuple(PRESET_OPTIONS))
    return PRESET_OPTIONS[name]
