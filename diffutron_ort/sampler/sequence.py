"""One sequence on its way from masks to text: its canvas, options, position in the schedule, cache and end."""

from collections import abc
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler import commit, sampling
from diffutron_ort.sampler.cache import CachePolicy, KVPair, PassPlan
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.sampler.predict import Best, Candidates
from diffutron_ort.sampler.schedule import commit_counts, drawn_counts
from diffutron_ort.types import Floats, Ids, SpecialIds

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
        """Return whether the whole answer can no longer change."""

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
        logprobs: float64 [m], the logarithms of these, which are precise even where the probability is almost 1 or 0.
        ids: int64 [length], the canvas after the step.
        start: Where its generated span begins.
        end: Where that span ends: at the end of the canvas, unless given tokens follow it.
        masks_left: Masks in that canvas.
        num_computed: How many of its tokens the step's pass computed: all of them, or fewer in a cached pass. (Under
            guidance there are two such passes.)
        num_predicted: How many of those it predicted.
        is_last: Whether the sequence has come to its end.
        best: For each committed position, the tokens that the model found best when it was committed.
    """

    index: int
    block: int
    positions: Ids
    confidence: NDArray[np.float64]
    logprobs: NDArray[np.float64] = field(repr=False)
    ids: Ids = field(repr=False)
    start: int
    end: int
    masks_left: int
    num_computed: int
    num_predicted: int
    is_last: bool
    best: Best = field(repr=False)
    _reader: Reader | None = field(default=None, repr=False)

    @property
    def is_full(self) -> bool:
        """Whether the step's pass computed every token."""
        return self.num_computed == len(self.ids)

    @cached_property
    def text(self) -> str:
        """The whole answer so far, without what is still masked; later steps may change it."""
        return self._reader.text(self._read, self.start) if self._reader else ""

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
        return self._reader.ending(self._read, self.start) if self._reader else nothing

    @property
    def _read(self) -> Ids:
        """The canvas up to the end of its generated span."""
        return self.ids[: self.end]

    @cached_property
    def settled(self) -> str:
        """The beginning of the answer that can no longer change: each step's begins with the one before's.

        It never ends within a character or with what may be the beginning of a stop string; the last step's is the
        whole `text`.
        """
        if self._reader is None or self.is_last:
            return self.text
        return self._reader.settled(self._read, self.start)


class Cursor(NamedTuple):
    """Where a sequence stands in its schedule.

    Attributes:
        block: Number of the active block.
        step: Number of the next step in it.
        counts: How many tokens each step of that block commits at least.
        finished: Whether there is nothing left to do.
    """

    block: int
    step: int
    counts: abc.Sequence[int]
    finished: bool = False


class Outcome(NamedTuple):
    """The state of a sequence after a step, worked out for all sequences of a pass before any of them changes.

    Attributes:
        step: What the caller gets.
        canvas: After the step.
        cursor: After the step.
        kv: The keys and values that the pass returned, if it was a full one that was asked for them.
        entropies: float [m], of the committed tokens, in nats; without meaning unless the plan wanted them.
        expects_miss: Whether the next pass is likely to need the whole logits.
    """

    step: Step
    canvas: Canvas
    cursor: Cursor
    kv: KVPair | None
    entropies: Floats
    expects_miss: bool


class Sequence:
    """A sequence that an engine takes from masks to text, a step at a time.

    Attributes:
        initial: The canvas before the first step.
        canvas: The canvas now.
        config: The options.
        cursor: Where it stands in its schedule.
        steps: Number of steps taken.
    """

    def __init__(
        self,
        canvas: Canvas,
        config: GenerationConfig,
        special: SpecialIds,
        reader: Reader | None = None,
        *,
        blocks: int | None = None,
        forced: Ids | None = None,
    ) -> None:
        """Set up the sequence at its first step that has something to commit.

        Args:
            canvas: With the tokens that are given, and masks.
            config: The options; `max_new_tokens`, `stop` and `seed` are applied beforehand and have no effect here.
            special: The control tokens.
            reader: Reads the steps' text and, with `early_end`, tells when the sequence can end.
            blocks: Number of blocks to divide `steps` among; None for the canvas's own number.
            forced: int64 [length], the tokens to commit, instead of those that the model chooses. The model still
                decides, by the confidence of what it would have chosen, in which order it comes to them. Where a mask
                is given, none is known, and the sequence ends once all the others are committed.
        """
        self.initial = self.canvas = canvas
        self.config, self._special, self._reader = config, special, reader
        self._blocks = canvas.block_count(config.block_length) if blocks is None else blocks
        self._policy = CachePolicy(config, special.mask)
        self._forced = forced
        self._expects_miss = False
        self.steps = 0
        begin = Cursor(0, 0, self._counts(canvas, 0), finished=self._is_written(canvas))
        self.cursor = begin if begin.finished else self._next(canvas, begin)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.cursor.finished

    def plan(self) -> PassPlan:
        """Prepare the next pass, and return what it does for this sequence.

        A full pass releases the cache that it replaces; preparing it again changes nothing.
        """
        assert not self.finished, "the sequence is already finished"
        config, block = self.config, self.cursor.block
        cached = self._policy.cached(block)
        return_kv = cached is None and self._policy.start(self.canvas, block)
        computed, kv = cached or (np.arange(self.canvas.length), None)
        return PassPlan(
            canvas=self.canvas,
            initial=self.initial,
            config=config,
            special=self._special,
            block=block,
            step=self.cursor.step,
            positions=self._candidates(self.canvas, block),
            computed=computed,
            kv=kv,
            return_kv=return_kv,
            wants_logits=bool(config.cfg_scale or self._expects_miss),
            forced=self._forced,
        )

    def outcome(self, plan: PassPlan, candidates: Candidates) -> Outcome:
        """Return the outcome of committing the most certain candidates of the pass of `plan`."""
        block, step, counts, _ = self.cursor
        order = commit.chosen(candidates, counts[step], self.config, self.canvas.seed, block, step)
        positions = candidates.positions[order]
        canvas = self.canvas.commit(positions, candidates.tokens[order])
        cursor = self._finish_if_settled(canvas) or self._next(canvas, self.cursor._replace(step=step + 1))
        taken = Step(
            index=self.steps,
            block=block,
            positions=positions,
            confidence=sampling.confidence(candidates.odds_against[order]),
            logprobs=candidates.logprobs[order],
            ids=canvas.ids,
            start=canvas.start,
            end=canvas.end,
            masks_left=canvas.masks(self._special.mask).size,
            num_computed=len(plan.computed),
            num_predicted=len(candidates.positions),
            is_last=cursor.finished,
            best=candidates.best.at(order),
            _reader=self._reader,
        )
        expects_miss = candidates.expected_misses > LIKELY_MISS
        return Outcome(taken, canvas, cursor, candidates.kv, candidates.entropies[order], expects_miss)

    def accept(self, outcome: Outcome) -> Step:
        """Move to the state after a step, and return the step."""
        self._policy.committed(outcome.kv, outcome.entropies)
        if outcome.cursor.finished:
            self._policy.clear()
        self.canvas, self.cursor, self._expects_miss = outcome.canvas, outcome.cursor, outcome.expects_miss
        self.steps += 1
        return outcome.step

    def _finish_if_settled(self, canvas: Canvas) -> Cursor | None:
        """Return the cursor of a sequence that can end early, None for one that goes on."""
        if self._is_written(canvas):
            return self.cursor._replace(finished=True)
        reader = self._reader if self.config.early_end else None
        settled = reader is not None and reader.is_settled(canvas.ids[: canvas.end], canvas.start)
        return self.cursor._replace(finished=True) if settled else None

    def _is_written(self, canvas: Canvas) -> bool:
        """Return whether all tokens that are given instead of the model's stand on a canvas."""
        return self._forced is not None and bool((canvas.ids == self._forced).all())

    def _next(self, canvas: Canvas, cursor: Cursor) -> Cursor:
        """Return the cursor at the first step from `cursor` on that has something to commit, or at the end."""
        block, step, counts, _ = cursor
        while not (step < len(counts) and self._candidates(canvas, block).size):
            block, step = block + 1, 0
            if block >= self._blocks:
                return Cursor(block, step, (), finished=True)
            counts = self._counts(canvas, block)
        return Cursor(block, step, counts)

    def _candidates(self, canvas: Canvas, block: int) -> Ids:
        """Return the positions [n] that can be committed while `block` is active, ascending."""
        return canvas.candidates(canvas.block(block, self.config.block_length), self._special.mask)

    def _counts(self, canvas: Canvas, block: int) -> list[int]:
        """Return how many tokens each step of `block` commits at least."""
        config, steps = self.config, -(-self.config.steps // max(1, self._blocks))
        start, end = canvas.block(block, config.block_length)
        masks = int((canvas.ids[start:end] == self._special.mask).sum())
        if config.stochastic_transfer:
            return drawn_counts(masks, steps, config.schedule, seed=canvas.seed, block=block)
        return commit_counts(masks, steps, config.schedule)
