"""The canvases that quantized graphs are measured on: passages with masks, and questions to answer."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from diffutron_ort.text.chat_template import CHAT_TEMPLATE, render_chat
from diffutron_ort.types import Ids
from diffutron_ort_export.check.reference import Asked
from diffutron_ort_export.check.verify import longest
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.passages import PASSAGES, QUESTIONS

RATIOS = (0.15, 0.5, 0.9)
LENGTH, ROWS = 64, 16
"""The most tokens of a canvas for a single pass, and the most masks whose logits are compared: at the real size, these
are 260 MB of float32's logits."""

SEED = 20260323


class Masked(NamedTuple):
    """A canvas for one pass."""

    ratio: float
    ids: Ids  # [seq]
    rows: Ids  # [n], masks among them

    @property
    def asked(self) -> Asked:
        """The canvas as the reference takes it."""
        return Asked(self.ids, self.rows)


def canvases(source: Source, draws: int = 1) -> list[Masked]:
    """Return the passages as tokens of the source, masked at random in each ratio, `draws` times."""
    random, mask = np.random.default_rng(SEED), source.tokenizer.special_ids["mask"]
    result = []
    for ratio in RATIOS * draws:
        for ids in encoded(source, PASSAGES):
            ids = ids[: min(LENGTH, source.shape.positions)]
            masks = np.flatnonzero(random.random(ids.size) < ratio)
            masks = masks if masks.size else np.array([ids.size // 2])
            hidden = np.where(np.isin(np.arange(ids.size), masks), mask, ids)
            result.append(Masked(ratio, hidden, np.sort(random.permutation(masks)[:ROWS])))
    return result


def long_canvas(source: Source) -> Asked:
    """Return all passages as one canvas without rows, half of it masks, and longer than a local layer sees."""
    random, shape = np.random.default_rng(SEED), source.shape
    ids = np.resize(np.concatenate(list(encoded(source, PASSAGES))), longest(shape))
    hidden = np.where(random.random(ids.size) < 0.5, source.tokenizer.special_ids["mask"], ids)
    return Asked(hidden, np.zeros(0, np.int64))


def prompts(source: Source, answer: int) -> list[Ids]:
    """Return the questions in the chat template as tokens of the source, if they and an answer so long fit."""
    rendered = [render_chat([{"role": "user", "content": text}], CHAT_TEMPLATE) for text in QUESTIONS]
    return [ids for ids in encoded(source, rendered) if ids.size + answer <= source.shape.positions]


def encoded(source: Source, texts: Sequence[str]) -> Iterator[Ids]:
    """Yield the ids [seq] of each text."""
    for text in texts:
        yield np.array(source.tokenizer.encode(text), np.int64)
