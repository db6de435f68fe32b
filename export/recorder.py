"""Records what a bundle does, as cases that hosts in any language are checked against: conformance.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.random import uniform_hash
from diffutron_ort.text.chat_template import render_chat
from diffutron_ort_export.generations import generations
from diffutron_ort_export.passages import PASSAGES

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


def record(folder: Path) -> dict[str, Any]:
    """Return the content of conformance.json for the bundle in `folder`, which is complete except for this file."""
    model = Diffutron.from_pretrained(folder)
    bundle, first = model.bundle, model.bundle.default_variant
    recorded = {
        "tokens": [tokens(text, model) for text in TEXTS],
        "chats": [{"messages": chat, "prompt": render_chat(chat, bundle.chat_template)} for chat in CHATS],
        "uniforms": [hashes(*place) for place in PLACES],
    }
    cases = {first: list(generations(model, first))}
    del model  # before another one takes as much memory
    for name in bundle.variants.keys() - cases.keys():
        cases[name] = list(generations(Diffutron.from_pretrained(folder, variant=name), name))
    return recorded | {"generations": [asdict(case) for name in bundle.variants for case in cases[name]]}


def tokens(text: str, model: Diffutron) -> dict[str, Any]:
    """Return the case of a text: its ids, and what they decode to."""
    ids = model.tokenizer.encode(text)
    return {"text": text, "ids": ids, "decoded": model.tokenizer.decode(ids)}


def hashes(seed: int, stream: int, block: int, step: int) -> dict[str, Any]:
    """Return the case of the hash whose upper 24 bits make the uniforms, at the first eight positions."""
    values = uniform_hash(seed, stream, block, step, np.arange(8))
    return {"seed": seed, "stream": stream, "block": block, "step": step, "hashes": values.tolist()}
