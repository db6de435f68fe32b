"""Variations of the embedded tokenizer.json, with steps that other models' tokenizers have."""

import json

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import SpecialIds

EMBEDDED = load_bundle().folder / "tokenizer.json"
SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)
TAGS = ("<b>", "</b>", "<sub>", "</sub>", "<br>", "<i>", "</i>")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
DECODERS = ({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"})
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def specification():
    """Return the embedded tokenizer.json."""
    return json.loads(EMBEDDED.read_text("utf-8"))


def build(flags=None, **parts):
    """Build a tokenizer from the embedded file, with HTML tags as added tokens, as in mmBERT, and other `parts`."""
    changed = specification() | parts
    for number, tag in enumerate(TAGS, 2023):
        plain = changed["added_tokens"][-1] | {"id": number, "content": tag}
        changed["added_tokens"].append(plain | (flags or {}))
    return tokenizer_of(changed)


def tokenizer_of(changed):
    """Load a tokenizer from the object of a tokenizer.json."""
    return Tokenizer(json.dumps(changed).encode(), "tokenizer.json", 10**4, SPECIAL)
