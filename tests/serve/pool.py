"""Requests whose answers are known: what the library gives for the same texts and options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from diffutron_ort import Completion, Diffutron
from diffutron_ort.sampler.engine import run
from diffutron_ort.sampler.sequence import Sequence as Canvas
from tests.serve.odd_bodies import CHAT, COMPLETIONS

QUESTIONS = (
    "On iki artı beş kaç eder?",
    "Yedi eksi üç kaç eder?",
    "'kitap' kelimesini tersten yaz.",
    "Sırala: dokuz, iki, beş",
    "Pazartesiden sonra hangi gün gelir?",
    "En büyüğü hangisi: üç, sekiz, altı?",
)
RAW = ("Bir iki üç", "On iki artı beş", "", "Sırala: dokuz, iki,")
OPTIONS: tuple[Mapping[str, Any], ...] = (
    {},
    {"temperature": 0.7},
    {"temperature": 1.5, "repetition_penalty": 1.3},
    {"preset": "fast"},
    {"preset": "long", "steps": 24},
    {"cache": "block", "block_length": 8, "refresh_steps": 2},
    {"commit": "entropy", "commit_entropy": 0.5},
    {"remasking": "random", "stochastic_transfer": True, "schedule": "cosine"},
    {"stop": ["e", "yedi"], "early_end": False, "temperature": 1.0},
    {"suppress_tokens": [5, 6, 7], "temperature": 0.5},
    {"cfg_scale": 0.5},
)


@dataclass(frozen=True)
class Known:
    """A request, and what its answer must be.

    Attributes:
        path: Where it is posted.
        body: Its fields.
        texts: Of the choices, in order.
        reasons: Why each of them ended.
    """

    path: str
    body: Mapping[str, Any]
    texts: tuple[str, ...]
    reasons: tuple[str, ...]


def known(model: Diffutron, number: int, seed: int) -> list[Known]:
    """Return some requests with their answers."""
    random = Random(seed)
    return [(_chat if random.random() < 0.6 else _completion)(model, random) for _ in range(number)]


def _common(random: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a request, and the other fields."""
    options = {"max_new_tokens": random.choice((8, 16, 32, 40)), "steps": 16, "seed": random.randrange(2**32)}
    return {**options, **random.choice(OPTIONS)}, {"n": random.choice((1, 1, 1, 2, 4)), "user": "soak"}


def _chat(model: Diffutron, random: Random) -> Known:
    options, others = _common(random)
    messages = [{"role": "user", "content": random.choice(QUESTIONS)}]
    if random.random() < 0.3:
        messages = [messages[0], {"role": "assistant", "content": "on"}, {"role": "user", "content": QUESTIONS[0]}]
    sequences = [model.sequence(messages, index=index, **options) for index in range(others["n"])]
    return _answered(model, CHAT, {"messages": messages, **options, **others}, sequences)


def _completion(model: Diffutron, random: Random) -> Known:
    options, others = _common(random)
    prompts = random.sample(RAW, random.choice((1, 1, 2)))
    suffix = random.choice(("", "", " eder."))
    every = [prompt for prompt in prompts for _ in range(others["n"])]
    sequences = [model.raw_sequence(prompt, suffix, index=index, **options) for index, prompt in enumerate(every)]
    body = {"prompt": prompts if len(prompts) > 1 else prompts[0], **options, **others}
    return _answered(model, COMPLETIONS, body | ({"suffix": suffix} if suffix else {}), sequences)


def _answered(model: Diffutron, path: str, body: Mapping[str, Any], sequences: Sequence[Canvas]) -> Known:
    """Return a request with the answers of its sequences, each of which is run alone."""
    ends = [Completion.of(step for _, step in run(model.engine, [sequence], 1)) for sequence in sequences]
    return Known(path, body, tuple(end.text for end in ends), tuple(end.finish_reason for end in ends))
