"""The multiply-adds of a pass, counted from the model's shape as the graph computes it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self


class Pass(NamedTuple):
    """One pass: how long the canvas is, how many of its tokens were computed, and how many of those predicted."""

    length: int
    computed: int
    asked: int


class Shape(NamedTuple):
    """What the arithmetic of a ModernBERT hangs on."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the shape in a checkpoint's config.json."""
        config = json.loads(path.read_text("utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
        return cls(*(config[name] for name in names))

    def multiply_adds(self, one: Pass) -> int:
        """Return those of the body's products, of attention and of the head; norms and the like are left out.

        In the last layer only keys and values are computed of all tokens, everything else of the predicted ones. A
        cached pass attends to as many kept keys as the canvas has places, and to those of its own tokens, which stand
        for some of them: the graph masks what is replaced, and window layers too compute all scores.
        """
        keys = one.length + (one.computed if one.computed < one.length else 0)
        keys_and_values = 2 * self.hidden**2
        rest = 2 * self.hidden**2 + 3 * self.hidden * self.intermediate + 2 * self.hidden * keys
        body = self.layers * one.computed * keys_and_values
        body += ((self.layers - 1) * one.computed + one.asked) * rest
        head = one.asked * self.hidden * (self.hidden + self.vocabulary)
        return body + head

    def total(self, passes: Iterable[Pass]) -> int:
        """Return the multiply-adds of several passes."""
        return sum(map(self.multiply_adds, passes))


MMBERT = Shape(layers=22, hidden=768, intermediate=1152, vocabulary=256_000)
