"""What a pass computes of a sequence: every token, or those that can have changed since a full pass."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.types import Floats, Ids


class Kept(NamedTuple):
    """The keys and values that a full pass left, as handles that only the model can read.

    Attributes:
        conditional: Of the canvas.
        unconditional: Of what guidance compares it with; None without guidance.
    """

    conditional: object
    unconditional: object = None


@dataclass(frozen=True, eq=False)
class View:
    """One sequence as a pass sees it.

    Attributes:
        canvas: As it is.
        first: As it was before the first step: what it held was given.
        computed: int64 [seq], the places that the pass computes, ascending: all of them, or those that can differ from
            what they were in the full pass that left `kept`.
        kept: Stands for the places that are not computed; None where all are.
        keep: Whether later passes want this one's keys and values.
    """

    canvas: Canvas
    first: Canvas
    computed: Ids
    kept: Kept | None = None
    keep: bool = False

    @property
    def past_position_ids(self) -> Ids:
        """The places of the kept keys and values, int64 [length], with -1 for those that the pass computes anew."""
        places = np.arange(self.canvas.length)
        places[self.computed] = -1
        return places


@dataclass(eq=False)
class Passes:
    """Decides, pass by pass, what is computed of one sequence, and holds what a full pass left for the next ones.

    While a block is active, only its own tokens change, and masks before it that were left over: a cached pass computes
    these. Those among them that have been committed since go on being computed, for the full pass saw their masks.

    Attributes:
        first: The canvas before the first step.
        config: The options.
        mask: The id of `<mask>`.
    """

    first: Canvas
    config: GenerationConfig
    mask: int
    _block: int = -1
    _computed: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    _kept: Kept | None = None
    _age: int = 0  # passes since the last full one, and itself

    def view(self, canvas: Canvas, block: int) -> View:
        """Return what the next pass computes of `canvas` while `block` is active."""
        if self._kept is not None and block == self._block and self._age != self.config.refresh_steps:
            return View(canvas, self.first, self._computed, self._kept)
        self._kept = None  # so that its memory serves the pass that replaces it
        self._block, self._age, self._computed = block, 0, self._changing(canvas, block)
        return View(canvas, self.first, np.arange(canvas.length), keep=self._will_be_of_use(canvas))

    def committed(self, kept: Kept | None, entropies: Floats) -> None:
        """Note what a pass left, None for a cached one, and the entropies [m] of the tokens that it led to, in nats."""
        self._age += 1
        self._kept = kept or self._kept
        limit = self.config.refresh_entropy
        if limit and entropies.max(initial=0) > limit:
            self._kept = None

    def _changing(self, canvas: Canvas, block: int) -> Ids:
        """Return the places [seq] that can change while `block` is active, ascending."""
        span = canvas.block(block, self.config.block_length)
        return np.union1d(np.arange(*span), canvas.candidates(span, self.mask))

    def _will_be_of_use(self, canvas: Canvas) -> bool:
        """Return whether a later pass will be a cached one, as far as can be known."""
        cached = self.config.cache == "block" and self.config.refresh_steps != 1
        return cached and len(self._computed) < canvas.length
