"""One sequence on its way from masks to text: its canvas, its options, its place in the schedule, cache and end."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler import commit, sampling
from diffutron_ort.sampler.cache import CachePolicy, PassPlan
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.sampler.predict import Candidates
from diffutron_ort.sampler.schedule import commit_counts, drawn_counts
from diffutron_ort.types import Ids, SpecialIds

# If more draws than this are expected to fall beyond the best tokens that a pass returns, the next pass fetches the
# whole logits at once: copying them costs about a twentieth of the second pass that they save.
LIKELY_MISS = 0.05


STOP, LENGTH = "stop", "length"


class Reader(Protocol):
    """Reads the answer off a canvas [length] whose generated span begins at `start`.

    `diffutron_ort.text.stopping.StopRule` is one.
    """

    def text(self, ids: Ids, start: int) -> str:
        """Return the answer so far, without its masks."""

    def settled(self, ids: Ids, start: int) -> str:
        """Return the beginning of the answer that no later step can change."""

    def is_settled(self, ids: Ids, start: int) -> bool:
        """Return whether the whole answer can change no more."""

    def ending(self, ids: Ids, start: int) -> tuple[Ids, bool]:
        """Return the positions [n] of the answer's tokens, and whether something ended it."""


@dataclass(frozen=True, eq=False)
class Step:
    """What one denoising step did to one sequence.

    Attributes:
        index: Number of this step in its sequence, from 0.
        block: Number of the active block, from 0.
        positions: int64 [m], the committed positions, the most certain first.
        confidence: float64 [m], the probability that the model gave to each committed token.
        ids: int64 [length], the canvas after the step.
        start: Where its generated span begins.
        masks_left: Masks in that canvas.
        num_computed: How many of its tokens the step's pass computed: all of them, or fewer in a cached pass. (Under
            guidance there are two such passes.)
        num_predicted: How many of those it predicted.
        is_last: Whether the sequence has come to its end.
    """

    index: int
    block: int
    positions: Ids
    confidence: NDArray[np.float64]
    ids: Ids = field(repr=False)
    start: int
    masks_left: int
    num_computed: int
    num_predicted: int
    is_last: bool
    _reader: Reader | None = field(default=None, repr=False)

    @property
    def is_full(self) -> bool:
        """Whether the step's pass computed every token."""
        return self.num_computed == len(self.ids)

    @cached_property
    def text(self) -> str:
        """The whole answer so far, without what is still masked; later steps may change it."""
        return self._reader.text(self.ids, self.start) if self._reader else ""

    @cached_property
    def answer(self) -> Ids:
        """The positions of the answer's tokens so far, int64 [n]."""
        return self._ending[0]

    @property
    def finish_reason(self) -> str | None:
        """Why the sequence ended, None before its last step.

        It is `stop` if a stop sequence, `<pad>` or `<eos>` ended the answer, and `length` if nothing did.
        """
        return (STOP if self._ending[1] else LENGTH) if self.is_last else None

    @cached_property
    def _ending(self) -> tuple[Ids, bool]:
        nothing = np.zeros(0, np.int64), False
        return self._reader.ending(self.ids, self.start) if self._reader else nothing

    @cached_property
    def settled(self) -> str:
        """The beginning of the answer that can change no more: each step's begins with the one before's.

        It never ends within a character or with what may be the beginning of a stop string; the last step's is the
        whole `text`.
        """
        if self._reader is None or self.is_last:
            return self.text
        return self._reader.settled(self.ids, self.start)


class Sequence:
    """A sequence that an engine takes from masks to text, a step at a time.

    Attributes:
        first: The canvas before the first step.
        canvas: The canvas now.
        config: The options.
        block: Number of the active block.
        step: Number of the next step in it.
        steps: How many steps were taken.
        finished: Whether there is nothing left to do.
    """

    def __init__(
        self,
        canvas: Canvas,
        config: GenerationConfig,
        special: SpecialIds,
        reader: Reader | None = None,
        *,
        blocks: int | None = None,
    ) -> None:
        """Begin.

        Args:
            canvas: With the tokens that are given, and masks.
            config: The options; `max_new_tokens`, `stop` and `seed` have done their part before.
            special: The control tokens.
            reader: Reads the steps' text and, with `early_end`, tells when the sequence can end.
            blocks: Among how many blocks `steps` are shared; None is as many as the canvas has.
        """
        self.first = self.canvas = canvas
        self.config, self._special, self._reader = config, special, reader
        self._blocks = canvas.block_count(config.block_length) if blocks is None else blocks
        self._policy = CachePolicy(config, special.mask)
        self._expects_miss = False
        self.block = self.step = self.steps = 0
        self.finished = False
        self._counts = self._block_counts()
        self._seek()

    def plan(self) -> PassPlan:
        """Return what the next pass does for this sequence."""
        assert not self.finished, "a sequence that has come to its end takes no further step"
        config = self.config
        cached = self._policy.cached(self.block)
        return_kv = cached is None and self._policy.start(self.canvas, self.block)
        computed, kv = cached or (np.arange(self.canvas.length), None)
        wants_logits = bool(config.cfg_scale or config.suppress_tokens or self._expects_miss)
        return PassPlan(
            canvas=self.canvas,
            first=self.first,
            config=config,
            special=self._special,
            block=self.block,
            step=self.step,
            positions=self._candidates(),
            computed=computed,
            kv=kv,
            return_kv=return_kv,
            wants_logits=wants_logits,
        )

    def commit(self, plan: PassPlan, candidates: Candidates) -> Step:
        """Commit what is surest of the candidates that the pass of `plan` led to, and go on to the next step."""
        order = commit.chosen(candidates, self._counts[plan.step], self.config, self.canvas.seed, plan.block, plan.step)
        positions = candidates.positions[order]
        self.canvas = self.canvas.commit(positions, candidates.tokens[order])
        self._policy.committed(candidates.kv, candidates.entropies[order])
        self._expects_miss = candidates.missing_mass > LIKELY_MISS
        self.steps += 1
        self.step += 1
        self._seek()
        return Step(
            index=self.steps - 1,
            block=plan.block,
            positions=positions,
            confidence=sampling.confidence(candidates.odds_against[order]),
            ids=self.canvas.ids,
            start=self.canvas.start,
            masks_left=int((self.canvas.ids == self._special.mask).sum()),
            num_computed=len(plan.computed),
            num_predicted=len(candidates.positions),
            is_last=self.finished,
            _reader=self._reader,
        )

    def _seek(self) -> None:
        """Move to the next step on the schedule that has something to commit, or finish."""
        reader = self._reader if self.config.early_end and self.steps else None
        if reader is not None and reader.is_settled(self.canvas.ids, self.canvas.start):
            self._finish()
            return
        while not (self.step < len(self._counts) and self._candidates().size):
            self.block, self.step = self.block + 1, 0
            if self.block >= self._blocks:
                self._finish()
                return
            self._counts = self._block_counts()

    def _finish(self) -> None:
        self.finished = True
        self._policy.clear()

    def _candidates(self) -> Ids:
        """Return the positions [n] that can be committed now, ascending."""
        return self.canvas.candidates(self.canvas.block(self.block, self.config.block_length), self._special.mask)

    def _block_counts(self) -> list[int]:
        """Return how many tokens each step of the active block commits at least."""
        config, steps = self.config, -(-self.config.steps // max(1, self._blocks))
        start, end = self.canvas.block(self.block, config.block_length)
        masks = int((self.canvas.ids[start:end] == self._special.mask).sum())
        if config.stochastic_transfer:
            return drawn_counts(masks, steps, config.schedule, seed=self.canvas.seed, block=self.block)
        return commit_counts(masks, steps, config.schedule)
