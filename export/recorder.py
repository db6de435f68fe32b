"""Records what a bundle does, as cases that a host in any language can be checked against: conformance.json.

Generations of float32 are kept where float64 takes the same steps, so that no host's last bits should turn them. Those
of other variants tell what this machine made of them, and are judged by their share of same tokens.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffutron_ort.bundle.conformance import Case
from diffutron_ort.checks.replay import answered
from diffutron_ort.errors import ContextError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort.runtime.session import scatter_to_vocab
from diffutron_ort.sampler.random import uniform_hash
from diffutron_ort.text.chat_template import render_chat
from diffutron_ort_export.check.fidelity import OWN, predictions
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.network import build
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
"""Seed, stream, block and step; seeds as far as JSON's numbers are exact in every language."""

SMALL: dict[str, Any] = {"max_new_tokens": 16, "steps": 16, "block_length": 8, "temperature": 0.0, "seed": 0}
OPTIONS: Sequence[Mapping[str, Any]] = (
    SMALL | {"repetition_penalty": 1.0},
    SMALL | {"repetition_penalty": 1.2},
    SMALL | {"repetition_penalty": 1.2, "steps": 5},
    SMALL | {"repetition_penalty": 1.2, "temperature": 0.1, "seed": 1},
    SMALL | {"repetition_penalty": 1.0, "temperature": 1.0, "seed": 123456789012345, "block_length": 6},
    SMALL | {"repetition_penalty": 1.2, "cache": "block", "commit": "factor", "commit_factor": 0.01},
)

LARGE = 10**8
"""Parameters from which on threads help; a small network's operators are over before another thread has woken."""


def record(folder: Path, source: Source, recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The content of conformance.json.

    Args:
        folder: a bundle that is whole but for it.
        source: what it was made from.
        recipes: its variants.
    """
    model = Diffutron.from_pretrained(folder, variant=recipes[0].name)
    return {
        "tokens": [tokens(text, model) for text in TEXTS],
        "chats": [{"messages": chat, "prompt": render_chat(chat, model.bundle.chat_template)} for chat in CHATS],
        "uniforms": [hashes(*place) for place in PLACES],
        "generations": [asdict(case) for recipe in recipes for case in cases(recipe, folder, source)],
    }


def tokens(text: str, model: Diffutron) -> dict[str, Any]:
    """A text's ids, and what they decode to."""
    ids = model.tokenizer.encode(text)
    return {"text": text, "ids": ids, "decoded": model.tokenizer.decode(ids)}


def hashes(seed: int, stream: int, block: int, step: int) -> dict[str, Any]:
    """The hashes of which uniforms are the upper 24 bits, of the first positions."""
    values = uniform_hash(seed, stream, block, step, np.arange(8))
    return {"seed": seed, "stream": stream, "block": block, "step": step, "hashes": values.tolist()}


def cases(recipe: Recipe, folder: Path, source: Source) -> Iterator[Case]:
    """What a variant generates, as far as the model's context goes and, at float32, as float64 does too."""
    model = Diffutron.from_pretrained(folder, variant=recipe.name, spin=False)  # torch's threads are busy, too
    judge = Diffutron(model.bundle, model.tokenizer, Float64(source)) if recipe.exact else model
    for prompt, template, given in asked():
        case = Case(
            recipe.name, recipe.exact, prompt, template, dict(sorted({**model.bundle.options, **given}.items()))
        )
        with contextlib.suppress(ContextError, OptionError):  # the source's own options may not go with the case's
            found = answered(case, model)
            if judge is model or answered(case, judge) == found:
                yield found


def asked() -> Iterator[tuple[str, bool, Mapping[str, Any]]]:
    """Questions, whether they go into the template, and options: each of these twice, once as raw text."""
    for number, options in enumerate(OPTIONS):
        for again in (0, 1):
            yield QUESTIONS[(number + again) % len(QUESTIONS)], not again, options


class Float64:
    """The denoiser in torch at float64, as the loop's model."""

    batch_invariant = False  # it takes one sequence at a time

    def __init__(self, source: Source) -> None:
        self.source = source
        self.denoiser = build(source.shape, source.tensors, source.output_vocabulary).double()
        self.large = sum(parameter.numel() for parameter in self.denoiser.parameters()) > LARGE

    def __call__(self, batch: PassInput, *, logits: bool = False) -> Predictions:
        """Runs a pass over one sequence."""
        given = {name: torch.from_numpy(np.ascontiguousarray(getattr(batch, name))) for name in OWN}
        if batch.past is None:
            key = value = torch.zeros(self.denoiser.layers, 1, 0, self.denoiser.hidden_size, dtype=torch.double)
            places = torch.zeros(1, 0, dtype=torch.long)
        else:
            [cache], places = batch.past.caches, torch.from_numpy(batch.past.position_ids)
            assert isinstance(cache, tuple), "it is one that a pass of this model returned"
            key, value = cache
        with torch.inference_mode(), by_default(torch.double), threads(None if self.large else 1):
            found = self.denoiser(**given, past_position_ids=places, past_key=key, past_value=value)
        said = predictions({name: tensor.numpy() for name, tensor in found._asdict().items()}, logits)
        said = scatter_to_vocab(said, self.source.output_vocabulary, self.source.shape.vocab_size)
        return replace(said, kv_caches=[(found.key, found.value)]) if batch.return_kv else said


@contextlib.contextmanager
def by_default(dtype: torch.dtype) -> Iterator[None]:
    """Has torch take a type for what is made of numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Has torch use so many threads; None leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
