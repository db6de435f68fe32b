"""The kinds of generation that are recorded: options of every sort that hosts have to get right."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.bundle.conformance import Case
from diffutron_ort.checks.replay import sequence
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.engine import Engine
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.margins import Watched

Options = Mapping[str, Any]

GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0, "seed": 0}
SMALL: dict[str, Any] = GREEDY | {"max_new_tokens": 12, "steps": 6, "block_length": 6}
SMALLEST: dict[str, Any] = GREEDY | {"max_new_tokens": 8, "steps": 4, "block_length": 4}
"""The options behind most kinds. Models of real size take a tenth of a second for each step."""

HOT, HOTTEST = 100.0, 1000.0
"""Temperatures at which most draws are beyond the candidates; at the higher one, all tokens are about as likely."""

MOST_PIECES = 2**14
"""The largest vocabulary in which a token beyond the candidates is likely enough for its draw to be clear."""

SEEDS = 4
"""How many seeds are offered where it depends on the seed what happens."""

SEARCHED = 5000
"""How many seeds are searched for those that draw `<mask>`."""


class Kind(NamedTuple):
    """A kind of generation.

    Attributes:
        options: Its options, or a function that makes them from the answer to the same prompt with the options
            SMALLEST: those to try in turn until a generation can be recorded.
        template: Whether to apply the chat template.
    """

    options: Options | Callable[[Case, Diffutron], Iterator[Options]]
    template: bool = True


def answer(plain: Case, model: Diffutron) -> list[int]:
    """Return the tokens that an answer consists of, up to the first mask."""
    mask = model.bundle.special.mask
    generated: list[int] = plain.canvas(mask)[len(plain.prompt_ids) :].tolist()
    return generated[: [*generated, mask].index(mask)]


def stops(find: Callable[[list[str]], list[str]]) -> Callable[[Case, Diffutron], Iterator[Options]]:
    """Return the function that makes stop strings of what an answer's first 1, 2, … tokens decode to."""

    def choices(plain: Case, model: Diffutron) -> Iterator[Options]:
        ids, [last] = answer(plain, model), plain.prompt_ids[-1:]
        if found := find([model.tokenizer.decode(ids[:n], last) for n in range(1, len(ids) + 1)]):
            yield SMALLEST | {"stop": found}

    return choices


def with_space(texts: list[str]) -> list[str]:
    """Return a stop string that begins with a space, as far back in the answer as there is one."""
    place = texts[-1].rstrip().rfind(" ") if texts else 0
    return [texts[-1][place : place + 3]] if place > 0 else []


def across_tokens(texts: list[str]) -> list[str]:
    """Return a stop string of two letters, one of each of two tokens."""
    pairs = (texts[-1][len(text) - 1 : len(text) + 1] for text in texts[:-1] if text)
    return [pair for pair in pairs if len(pair) == 2 and not any(map(str.isspace, pair))][-1:]


def several(texts: list[str]) -> list[str]:
    """Return stop strings of which two begin at the same letter, and one never comes."""
    word = texts[-1].strip()[1:4] if texts else ""
    return ["\N{SNOWMAN}", word, word[:-1]] if len(word) > 1 else []


def suppressed(plain: Case, model: Diffutron) -> Iterator[Options]:
    """Yield options that forbid what the answer begins with."""
    yield SMALLEST | {"suppress_tokens": sorted(set(answer(plain, model)[:2]))}


def exempt(plain: Case, model: Diffutron) -> Iterator[Options]:
    """Yield options that exempt from a penalty what the answer consists of."""
    yield SMALLEST | {"repetition_penalty": 2.0, "penalty_exempt": sorted(set(answer(plain, model)))}


def guided(plain: Case, _: Diffutron) -> Iterator[Options]:
    """Yield options of guidance in which the unconditional pass sees the prompt's last token."""
    yield SMALLEST | {"cfg_scale": 1.0, "cfg_keep_tokens": list(plain.prompt_ids[-1:])}


def drawn_beyond(_: Case, model: Diffutron) -> Iterator[Options]:
    """Yield options with which most tokens are drawn from beyond the candidates."""
    if model.bundle.vocab_size <= MOST_PIECES:
        yield from (SMALLEST | {"temperature": HOT, "steps": 2, "seed": seed} for seed in range(SEEDS))


def masks_left(plain: Case, model: Diffutron) -> Iterator[Options]:
    """Yield options with which the first block commits a `<mask>`, so that the second has one candidate too many."""
    if model.bundle.vocab_size > MOST_PIECES:
        return
    options = SMALLEST | {"temperature": HOTTEST, "steps": 2}
    watched, given = Watched(model.forward), sequence(replace(plain, options={**plain.options, **options}), model)
    places = given.plan().positions
    Engine(watched).step([given])
    if (logits := watched.found[-1].logits) is None:  # the vocabulary is so small that all are candidates
        return
    first, last = interval(logits, watched.found[-1].top_ids, model.bundle.special.mask)
    draws = ((seed, uniform(seed, Stream.TOKEN, 0, 0, places)) for seed in range(SEARCHED))
    found = (seed for seed, u in draws if ((first <= u) & (u < last)).any())
    yield from (options | {"seed": seed} for seed in islice(found, SEEDS))


def interval(logits: Floats, top_ids: Ids, token: int) -> tuple[Floats, Floats]:
    """Return the uniforms between which a token beyond the candidates is drawn at the temperature HOTTEST, each [n].

    Args:
        logits: [n, vocab].
        top_ids: The candidates [n, k].
        token: One that is none of them.
    """
    shares = np.exp(logits.astype(np.float64) / HOTTEST)
    shares /= shares.sum(axis=1, keepdims=True)
    earlier = np.tile(np.arange(logits.shape[1]) < token, (len(logits), 1))
    np.put_along_axis(earlier, top_ids, True, axis=1)
    before = (shares * earlier).sum(axis=1)
    return before, before + shares[:, token]


COMMON = (
    SMALL | {"steps": 12},
    SMALL | {"repetition_penalty": 1.2},
    SMALL | {"repetition_penalty": 1.2, "steps": 5},
    SMALL | {"repetition_penalty": 1.2, "temperature": 0.1, "seed": 1},
    SMALL | {"temperature": 1.0, "seed": 123456789012345, "block_length": 5},
    SMALL | {"repetition_penalty": 1.2, "cache": "block", "commit": "factor", "commit_factor": 0.01},
)
KINDS = (
    *(Kind(options, template) for options in COMMON for template in (True, False)),
    Kind(stops(with_space), template=False),
    Kind(stops(across_tokens)),
    Kind(stops(several), template=False),
    Kind(SMALLEST | {"remasking": "random", "temperature": 0.5, "seed": 2}),
    Kind(SMALLEST | {"commit": "entropy", "commit_entropy": 0.5}),
    Kind(SMALL | {"cache": "block", "block_length": 12, "refresh_steps": 2}, template=False),
    Kind(SMALL | {"cache": "block", "block_length": 12, "refresh_entropy": 1.0}, template=False),
    Kind(exempt, template=False),
    Kind(suppressed),
    Kind(SMALL | {"schedule": "cosine"}, template=False),
    Kind(guided, template=False),
    Kind(drawn_beyond, template=False),
    Kind(masks_left, template=False),
)
