"""A simple sampler for watching the training: 64 masks, blocks of 32, one token per step, the most confident first.

The figures in the model card are measured with the shipped runtime instead (evaluate.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from batches import BLOCK, CLOSING, PROMPT, SPAN
from tokenizer import BOS, EOS, MASK, PAD, UNK
from torch import Tensor

from diffutron_ort.text.stopping import Ends, StopRule
from diffutron_ort.types import SpecialIds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exercises import Exercise
    from network import Denoiser
    from tokenizers import Tokenizer

ROWS = 64
SPECIAL = SpecialIds(PAD, EOS, BOS, UNK, MASK)


@torch.inference_mode()
def generate(network: Denoiser, prompts: Tensor, ends: Ends) -> Tensor:
    """Answer prompts of one length, [batch, seq] -> [batch, SPAN]; rows whose answer has ended stay as they are."""
    length = prompts.shape[1]
    canvas = torch.cat((prompts, torch.full((len(prompts), SPAN), MASK)), dim=1)
    for first in range(length, length + SPAN, BLOCK):
        for _ in range(BLOCK):
            going = torch.tensor([not ends.has_ended(row) for row in canvas[:, length:].numpy()]).nonzero()[:, 0]
            if not len(going):
                return canvas[:, length:]
            canvas[going] = _step(network, canvas[going], first)
    return canvas[:, length:]


def _step(network: Denoiser, canvas: Tensor, first: int) -> Tensor:
    """Commit the most confident masked position of the block in every row."""
    wanted = torch.zeros_like(canvas, dtype=torch.bool)
    wanted[:, first : first + BLOCK] = True
    probability, token = network(canvas, wanted).softmax(-1).view(len(canvas), BLOCK, -1).max(-1)
    block = canvas[:, first : first + BLOCK]
    place = probability.masked_fill(block != MASK, -1).argmax(1, keepdim=True)
    block.scatter_(1, place, token.gather(1, place))
    return canvas


class Plain:
    """The training's tokenizer, as the stop rule takes it: an exercise's answer is one line, so nothing is dropped."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:  # noqa: ARG002
        """Return the text of `ids`, control tokens left out."""
        return self.tokenizer.decode(ids)

    def piece(self, token: int) -> str:
        """Return what a token looks like on its own."""
        return str(self.tokenizer.id_to_token(token))


def answer(network: Denoiser, tokenizer: Tokenizer, questions: Sequence[str]) -> list[str]:
    """Answer questions, those with prompts of one length together."""
    prompts = [tokenizer.encode(PROMPT.format(question=q), add_special_tokens=False).ids for q in questions]
    closing = CLOSING.strip()
    own = [(closing, tokenizer.encode(closing, add_special_tokens=False).ids)]
    rule, ends = StopRule(Plain(tokenizer), SPECIAL, own), Ends(SPECIAL, [ids for _, ids in own])
    groups = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[len(prompt)].append(i)
    answers = [""] * len(prompts)
    for group in groups.values():
        for chunk in (group[i : i + ROWS] for i in range(0, len(group), ROWS)):
            spans = generate(network, torch.tensor([prompts[i] for i in chunk]), ends)
            for i, span in zip(chunk, spans.numpy(), strict=True):
                answers[i] = rule.text(span, 0).strip()
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
    """Return the shares of right answers over several parts."""
    names = dict.fromkeys(name for part in parts for name in part)
    together = {name: [mark for part in parts for mark in part.get(name, [])] for name in names}
    return {name: sum(each) / len(each) for name, each in together.items()}
