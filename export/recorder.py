"""Records what a bundle does, as cases that hosts in any language are checked against: conformance.json.

Of an exact variant, only generations whose steps match a float64 run are recorded, so that rounding on other hosts does
not change them. Those of a quantized variant are what this machine generates; hosts are judged by the share of equal
tokens.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diffutron_ort.bundle.conformance import Case
from diffutron_ort.checks.replay import answered
from diffutron_ort.errors import ContextError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.random import uniform_hash
from diffutron_ort.text.chat_template import render_chat
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.passages import PASSAGES, QUESTIONS
from diffutron_ort_export.recipes import Recipe

TEXTS = (
    "",
    " ",
    "a",
    "İstanbul'un ılık ışığı, Iğdır'ın ıssız ığıltısı; çÇğĞıIiİöÖşŞüÜ.",
    "İ\u0307 i\u0307 ﬁ ½ e\u0301",
    "satır\nsonu\n\nboş satır\r\nve\tsekme\t\tiki  boşluk   üç ",
    "\n",
    "👋🏽 dünya 🇹🇷 👨‍👩‍👧 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "漢字 العربية עברית ไทย ꙮ \x00\x07\x7f\ufeff\u200b",
    "<mask> <pad><eos>, <bos> ve <unk>; <start_of_turn>user<end_of_turn> [@BOS@] <2mass> <unused7>",
    "[Question]\nSoru?\n[/Question]\n\n[Answer]\nCevap[/Answer]",
    "12345 + 0,5 = %99 → f(x) := {a: [1, 2]}; https://örnek.tr/?q=ığ#ş",
    " baştaki boşluk, sondaki boşluk ",
    "\n".join(PASSAGES),
)

CHATS: Sequence[Sequence[Mapping[str, str]]] = (
    [{"role": "user", "content": "Merhaba!"}],
    [{"role": "user", "content": "  kenarları \n kırpılır\t\n"}],
    [
        {"role": "system", "content": "Kısa yaz."},
        {"role": "user", "content": "Adın ne?"},
        {"role": "assistant", "content": "Adım yok."},
        {"role": "user", "content": "İki satır:\nbir\niki"},
    ],
)

PLACES = ((0, 0, 0, 0), (1, 0, 0, 0), (2**32, 0, 1, 0), (123456789012345, 2, 3, 31), (2**53 - 1, 1, 0, 7))
"""Seed, stream, block and step. No seed is beyond 2^53, up to which JSON's numbers are exact in every language."""

SMALL: dict[str, Any] = {"max_new_tokens": 16, "steps": 16, "block_length": 8, "temperature": 0.0, "seed": 0}
OPTIONS: Sequence[Mapping[str, Any]] = (
    SMALL | {"repetition_penalty": 1.0},
    SMALL | {"repetition_penalty": 1.2},
    SMALL | {"repetition_penalty": 1.2, "steps": 5},
    SMALL | {"repetition_penalty": 1.2, "temperature": 0.1, "seed": 1},
    SMALL | {"repetition_penalty": 1.0, "temperature": 1.0, "seed": 123456789012345, "block_length": 6},
    SMALL | {"repetition_penalty": 1.2, "cache": "block", "commit": "factor", "commit_factor": 0.01},
)


def record(folder: Path, source: Source, recipes: Sequence[Recipe]) -> dict[str, Any]:  # noqa: ARG001
    """Return the content of conformance.json.

    Args:
        folder: The bundle, complete except for this file.
        source: The checkpoint.
        recipes: The variants that can be run.
    """
    model = Diffutron.from_pretrained(folder, variant=recipes[0].name)
    return {
        "tokens": [tokens(text, model) for text in TEXTS],
        "chats": [{"messages": chat, "prompt": render_chat(chat, model.bundle.chat_template)} for chat in CHATS],
        "uniforms": [hashes(*place) for place in PLACES],
        "generations": [asdict(case) for recipe in recipes for case in cases(recipe, folder)],
    }


def tokens(text: str, model: Diffutron) -> dict[str, Any]:
    """Return the case of a text: its ids, and what they decode to."""
    ids = model.tokenizer.encode(text)
    return {"text": text, "ids": ids, "decoded": model.tokenizer.decode(ids)}


def hashes(seed: int, stream: int, block: int, step: int) -> dict[str, Any]:
    """Return the case of the hash whose upper 24 bits make the uniforms, at the first eight positions."""
    values = uniform_hash(seed, stream, block, step, np.arange(8))
    return {"seed": seed, "stream": stream, "block": block, "step": step, "hashes": values.tolist()}


def cases(recipe: Recipe, folder: Path) -> Iterator[Case]:
    """Yield the generations of a variant that fit the context."""
    model = Diffutron.from_pretrained(folder, variant=recipe.name)
    for prompt, template, given in questions():
        case = Case(
            recipe.name, recipe.exact, prompt, template, dict(sorted({**model.bundle.options, **given}.items()))
        )
        with contextlib.suppress(ContextError, OptionError):  # the bundle's options may contradict the case's
            yield answered(case, model)


def questions() -> Iterator[tuple[str, bool, Mapping[str, Any]]]:
    """Yield questions, whether to apply the chat template, and options: all options twice, once on raw text."""
    for number, options in enumerate(OPTIONS):
        for again in (0, 1):
            yield QUESTIONS[(number + again) % len(QUESTIONS)], not again, options
