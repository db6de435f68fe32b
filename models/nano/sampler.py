"""A plain sampler to watch training with: 64 masks, blocks of 32, one token a step, the surest first.

What the card reports is measured with the shipped runtime instead (evaluate.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from batches import BLOCK, CLOSING, PROMPT, SPAN
from tokenizer import MASK
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exercises import Exercise
    from network import Denoiser
    from tokenizers import Tokenizer

ROWS = 64


@torch.inference_mode()
def generate(network: Denoiser, prompts: Tensor, end: int) -> Tensor:
    """Answer prompts of one length, [batch, seq] -> [batch, SPAN]; rows whose answer has ended stay as they are."""
    length = prompts.shape[1]
    canvas = torch.cat((prompts, torch.full((len(prompts), SPAN), MASK)), dim=1)
    for first in range(length, length + SPAN, BLOCK):
        for _ in range(BLOCK):
            going = (~ended(canvas[:, length:], end)).nonzero()[:, 0]
            if not len(going):
                return canvas[:, length:]
            canvas[going] = _step(network, canvas[going], first)
    return canvas[:, length:]


def _step(network: Denoiser, canvas: Tensor, first: int) -> Tensor:
    """Commit the surest masked position of the block in every row."""
    wanted = torch.zeros_like(canvas, dtype=torch.bool)
    wanted[:, first : first + BLOCK] = True
    probability, token = network(canvas, wanted).softmax(-1).view(len(canvas), BLOCK, -1).max(-1)
    block = canvas[:, first : first + BLOCK]
    place = probability.masked_fill(block != MASK, -1).argmax(1, keepdim=True)
    block.scatter_(1, place, token.gather(1, place))
    return canvas


def ended(answers: Tensor, end: int) -> Tensor:
    """Which rows have the closing token with no mask before it."""
    return ((answers == end) & ((answers == MASK).cumsum(1) == 0)).any(1)


def answer(network: Denoiser, tokenizer: Tokenizer, questions: Sequence[str]) -> list[str]:
    """Answer questions, those with prompts of one length together."""
    prompts = [tokenizer.encode(PROMPT.format(question=q), add_special_tokens=False).ids for q in questions]
    end = tokenizer.token_to_id("▁[/Answer]")
    groups = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[len(prompt)].append(i)
    answers = [""] * len(prompts)
    for group in groups.values():
        for chunk in (group[i : i + ROWS] for i in range(0, len(group), ROWS)):
            spans = generate(network, torch.tensor([prompts[i] for i in chunk]), end)
            for i, span in zip(chunk, spans.tolist(), strict=True):
                answers[i] = tokenizer.decode(span, skip_special_tokens=True).split(CLOSING.strip())[0].strip()
    return answers


Marks = dict[str, list[bool]]


def marks(network: Denoiser, tokenizer: Tokenizer, exercises: Sequence[Exercise]) -> Marks:
    """Mark the answers, all of them and by kind."""
    given = answer(network, tokenizer, [exercise.question for exercise in exercises])
    right: Marks = defaultdict(list)
    for exercise, text in zip(exercises, given, strict=True):
        for name in ("overall", exercise.kind):
            right[name].append(text == exercise.answer)
    return right


def merge(parts: Sequence[Marks]) -> dict[str, float]:
    """Shares of right answers over several parts."""
    names = dict.fromkeys(name for part in parts for name in part)
    together = {name: [mark for part in parts for mark in part.get(name, [])] for name in names}
    return {name: sum(each) / len(each) for name, each in together.items()}
