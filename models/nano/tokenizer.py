"""A small tokenizer in mmBERT's pipeline.

The merges are learnt on morphemes rather than on running text: every word that questions are made of becomes one piece,
and suffixes are pieces of their own, so that "kitaptan" is "▁kitap" + "tan". Text outside that vocabulary falls back to
letters and, at last, to bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from exercises import KINDS, draw, sentence
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from turkish import ablative, accusative, capitalise, locative, number, plural, possessive
from words import CAPITALS, NOUNS

if TYPE_CHECKING:
    from collections.abc import Iterator

Merge = tuple[str, str]

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
PAD, EOS, BOS, UNK, MASK = range(5)
RUNS = tuple("\n" * n for n in range(1, 6)) + tuple("\t" * n for n in range(1, 6))
TEMPLATE = ("[SYS]", "[/SYS]", "[Question]", "[/Question]", "[Answer]", "[/Answer]")
LETTERS = "abcçdefgğhıijklmnoöprsştuüvyzqwxABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZQWXâîû0123456789.,:;?!'\"()-+=*/[]_%&▁"
SAMPLES = 60_000
"""The number of drawn questions whose words are collected; a tenth of it finds nearly all."""


def morphemes() -> list[str]:
    """Return all pieces that deserve a token, with "▁" before those that begin a word."""
    rng = Random("morphemes")
    kinds = list(KINDS)
    texts = {draw(rng.choice(kinds), rng).question for _ in range(SAMPLES)} | {sentence(rng) for _ in range(5000)}
    words = {word for text in texts for word in text.split()}
    words |= {number(100), capitalise(number(100)), *TEMPLATE, *(noun.stem for noun in NOUNS)}
    return sorted({piece for word in words for piece in _pieces(word)} | _suffixes())


def _pieces(word: str) -> list[str]:
    """Cut a word at punctuation, at the apostrophe, and a city's name in its middle."""
    if word in TEMPLATE:
        return [f"▁{word}"]
    cities = {city: city[: (len(city) + 1) // 2] for _, city in CAPITALS if len(city) > 4}
    pieces = []
    for piece in re.findall(r"'\w+|_+|\w+|[^\w\s]", word):
        head = cities.get(piece, piece)
        pieces += [head, piece[len(head) :]] if head != piece else [piece]
    return [f"▁{pieces[0]}", *pieces[1:]]


def _suffixes() -> set[str]:
    rules = [plural, locative, ablative, accusative]
    forms = {rule(noun)[1] for rule in rules for noun in NOUNS}
    return forms | {possessive(noun, owner)[1] for noun in NOUNS for owner in ("benim", "senin", "onun")}


def _stem_merges() -> list[Merge]:
    """Grow every noun letter by letter from its "▁", so that no suffix can take a letter from its end."""
    stems = sorted({f"▁{form}" for noun in NOUNS for form in (noun.word, noun.stem)})
    return list(dict.fromkeys((stem[:end], stem[end]) for stem in stems for end in range(1, len(stem))))


def _apply(merge: Merge, symbols: list[str]) -> list[str]:
    """Join a pair wherever it stands, from left to right."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == merge:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def _learn(split: list[list[str]]) -> Iterator[Merge]:
    """Learn a byte-pair encoding: join the most common pair until every piece is one symbol."""
    while pairs := Counter(pair for symbols in split for pair in pairwise(symbols)):
        merge = min(pairs, key=lambda pair: (-pairs[pair], pair))
        split = [_apply(merge, symbols) for symbols in split]
        yield merge


def _merges(pieces: list[str]) -> list[Merge]:
    first = _stem_merges()
    split = [list(piece) for piece in pieces]
    for merge in first:
        split = [_apply(merge, symbols) for symbols in split]
    return [*first, *_learn(split)]


def _model(pieces: list[str]) -> models.BPE:
    merges = _merges(pieces)
    alphabet = sorted(set(LETTERS) | set("".join(pieces)))
    tokens = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet, *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return models.BPE(vocabulary, merges, unk_token=CONTROL[UNK], fuse_unk=True, byte_fallback=True)


def build() -> Tokenizer:
    """Build the tokenizer; the same one every time."""
    tokenizer = Tokenizer(_model(morphemes()))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <eos> $B <eos>",
        special_tokens=[("<bos>", BOS), ("<eos>", EOS)],
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    control = [AddedToken(text, lstrip=text == CONTROL[MASK], normalized=False, special=True) for text in CONTROL]
    tokenizer.add_special_tokens(control)
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in RUNS])
    return tokenizer
