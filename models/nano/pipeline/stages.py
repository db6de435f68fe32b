"""The stages of the recipe, as rows: what the paper did, and what nano does in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from exercises import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

LISTS = ("sum", "order", "reverse", "day", "month", "gap")
"""Kinds about numbers, lists and the calendar: what the base reads about."""
LANGUAGE = tuple(kind for kind in KINDS if kind not in LISTS)
"""Kinds about words, their suffixes and their facts: what the base hardly knows."""
MINUTES = 12
"""About what all of it takes on two quiet cores."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: Of its folder.
        paper: What it stands for.
        after: The stage whose checkpoint it begins from; None begins from random weights.
        learns: Which parameters: all of them from random weights, an adapter's, or all of them further.
        reads: Plain sentences, or questions in the chat template with the loss on the answer alone.
        shares: How often each kind is drawn, relative to the others.
        steps: Steps when the whole recipe takes `MINUTES`.
        rows: Rows of a step, of all threads together.
        rate: The highest learning rate.
    """

    name: str
    paper: str
    after: str | None
    learns: Literal["all", "adapter", "further"]
    reads: Literal["sentences", "questions"]
    shares: Mapping[str, float]
    steps: int
    rows: int = 32
    rate: float = 1e-3


STAGES = (
    Stage(
        name="base",
        paper="mmBERT-base, which has read little Turkish",
        after=None,
        learns="all",
        reads="sentences",
        shares={"sum": 2.0} | dict.fromkeys(LISTS[1:], 1.0) | dict.fromkeys(LANGUAGE, 0.1),
        steps=800,
    ),
    Stage(
        name="cpt",
        paper="continual pre-training on Turkish by LoRA, merged: DiffutronLM-0.3B-Base",
        after="base",
        learns="adapter",
        reads="sentences",
        shares=dict.fromkeys(KINDS, 1.0),
        steps=400,
    ),
    Stage(
        name="sft1",
        paper="instruction tuning of all parameters on a first set: DiffutronLM-0.3B-1st-Stage",
        after="cpt",
        learns="further",
        reads="questions",
        shares=dict.fromkeys(LANGUAGE, 1.0),
        steps=500,
    ),
    Stage(
        name="sft2",
        paper="instruction tuning on a second, larger set in larger batches: DiffutronLM-0.3B-Instruct",
        after="sft1",
        learns="further",
        reads="questions",
        shares=dict.fromkeys(KINDS, 1.0),
        steps=600,
        rows=64,
    ),
)
