"""Training batches: exercises in the chat template, bucketed by length, some of the answer masked."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import torch
from exercises import KINDS, draw_from, sentence
from tokenizer import MASK, PAD
from torch import Tensor

from diffutron_ort.text.chat_template import CHAT_TEMPLATE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROMPT = CHAT_TEMPLATE["user"].replace("{content}", "{question}") + CHAT_TEMPLATE["generation"]
CLOSING = CHAT_TEMPLATE["assistant"].partition("{content}")[2]
SPAN, BLOCK = 64, 32
"""What the runtime generates: 64 tokens in two blocks."""

POOL = 32
"""The number of batches that are sorted by length together."""
SHORT_TAIL = 6
FULL = 0.12
"""The share of batches with the whole span of 64, which are three times as long and hold fewer rows."""
SENTENCES = 0.03
MOST_WEIGHT = 10.0
"""Otherwise a token that is masked alone among sixty would outweigh its whole batch."""


class Batch(NamedTuple):
    """One step's data."""

    ids: Tensor
    """[batch, seq], masked."""
    targets: Tensor
    """[batch, seq], before masking."""
    masked: Tensor
    """[batch, seq]: the positions to predict."""
    weights: Tensor
    """[batch, seq]: n / k for a row of which k of n were masked."""
    lengths: Tensor
    """[batch]: the number of answer tokens without padding, which the losses are divided by."""
    kinds: list[int]
    """The kind of every row; empty for sentences."""


@dataclass(frozen=True)
class Row:
    """One exercise as ids."""

    kind: int
    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Batches:
    """Endless training batches.

    Attributes:
        shares: The share of the data that each kind gets; the trainer raises those of kinds that lag.
        sentences: The share of batches of plain sentences.
    """

    sentences = SENTENCES

    def __init__(self, tokenizer: Tokenizer, size: int, seed: int) -> None:
        self.tokenizer = tokenizer
        self.size = size
        self.rng = Random(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.names = list(KINDS)
        self.shares = [1.0] * len(KINDS)
        self.waiting: list[Batch] = []

    def __next__(self) -> Batch:
        if not self.waiting:
            self.waiting = self._pool()
        return self.waiting.pop()

    def _pool(self) -> list[Batch]:
        rows = sorted(self._rows(POOL * self.size), key=lambda row: len(row) + self.rng.random())
        buckets = [rows[i : i + self.size] for i in range(0, len(rows), self.size)]
        pool = [self._full(bucket) if self.rng.random() < FULL else self._short(bucket) for bucket in buckets]
        if self.rng.random() < self.sentences * POOL:
            pool.append(self._sentences())
        self.rng.shuffle(pool)
        return pool

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _rows(self, count: int) -> list[Row]:
        kinds = self.rng.choices(range(len(self.names)), self.shares, k=count)
        exercises = [draw_from("training", self.names[kind], self.rng) for kind in kinds]
        prompts = self._encode([PROMPT.format(question=exercise.question) for exercise in exercises])
        answers = self._encode([exercise.answer + CLOSING for exercise in exercises])
        return [Row(*row) for row in zip(kinds, prompts, answers, strict=True)]

    def _short(self, rows: list[Row]) -> Batch:
        return self._batch(rows, max(map(len, rows)) + self.rng.randrange(SHORT_TAIL), 0)

    def _full(self, rows: list[Row]) -> Batch:
        rows = rows[::3]
        length = max(len(row.prompt) for row in rows) + SPAN
        return self._batch(rows, length, SPAN - BLOCK if self.rng.random() < 0.5 else 0)

    def _batch(self, rows: list[Row], length: int, later: int) -> Batch:
        """Pad the rows, padding being part of the answer, and mask them.

        Args:
            rows: The exercises.
            length: The length of every sequence.
            later: The number of positions at the end that belong to a later block: all masks, and not predicted.
        """
        targets = torch.full((len(rows), length), PAD)
        for i, row in enumerate(rows):
            targets[i, : len(row)] = torch.tensor(row.prompt + row.answer)
        start = torch.tensor([len(row.prompt) for row in rows])
        place = torch.arange(length)
        batch = self._mask(targets, (place >= start[:, None]) & (place < length - later))
        batch.ids[:, length - later :] = MASK
        return batch._replace(lengths=torch.tensor([len(row.answer) for row in rows]), kinds=[row.kind for row in rows])

    def _sentences(self) -> Batch:
        """Return sentences of one length without a template, up to half of their tokens masked."""
        texts = self._encode([sentence(self.rng) for _ in range(2 * self.size)])
        length = len(self.rng.choice(texts))
        targets = torch.tensor([ids for ids in texts if len(ids) == length])
        return self._mask(targets, torch.ones_like(targets, dtype=torch.bool), most=0.5)

    def _mask(self, targets: Tensor, maskable: Tensor, most: float = 1.0) -> Batch:
        """Mask k of each row's n tokens, k uniform in 1..n and stratified over the batch, with weight n / k.

        Its expectation is that of t uniform, masks with probability t and weight 1 / t (both average over every order
        in which the tokens can be filled), without rows of no mask and with a bounded weight.
        """
        n = maskable.sum(1)
        level = (torch.randperm(len(n), generator=self.noise) + torch.rand(len(n), generator=self.noise)) / len(n)
        k = (level * n * most).ceil().clamp(min=1)
        order = torch.rand(targets.shape, generator=self.noise).masked_fill(~maskable, 2.0).argsort(1).argsort(1)
        masked = order < k[:, None]
        weights = (n / k).clamp(max=MOST_WEIGHT)[:, None].expand_as(targets)
        return Batch(targets.masked_fill(masked, MASK), targets, masked, weights, n, [])
