"""What a pass computes of a sequence: all tokens, or only those that may have changed since the last full pass."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import KVCache
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.types import Floats, Ids, SpecialIds


class KVPair(NamedTuple):
    """The keys and values that a full pass returned.

    Attributes:
        conditional: Of the canvas.
        unconditional: Of the canvas that guidance compares it with; None without guidance.
    """

    conditional: KVCache
    unconditional: KVCache | None = None


@dataclass(frozen=True, eq=False)
class PassPlan:
    """What one pass does for one sequence.

    Attributes:
        canvas: As it is.
        initial: The canvas before the first step; its tokens other than masks are the given ones.
        config: The options of the sequence.
        special: The control tokens.
        block: Number of the active block.
        step: Number of the step in that block.
        positions: int64 [n], the candidates, ascending.
        computed: int64 [seq], the places that the pass computes, ascending: all of them, or those that can differ from
            what they were in the full pass that returned `kv`.
        kv: Keys and values of the places that are not computed; None if all are.
        return_kv: Whether later passes want this one's keys and values.
        wants_logits: Whether the raw logits are likely to be needed.
        forced: int64 [length], the canvas that the sequence has to come to; None if it chooses its tokens itself.
    """

    canvas: Canvas
    initial: Canvas
    config: GenerationConfig
    special: SpecialIds
    block: int
    step: int
    positions: Ids
    computed: Ids
    kv: KVPair | None = None
    return_kv: bool = False
    wants_logits: bool = False
    forced: Ids | None = None

    @property
    def rows(self) -> Ids:
        """Return the indices [n] of the candidates into the computed places."""
        return np.searchsorted(self.computed, self.positions)

    @property
    def wants_entropy(self) -> bool:
        """Return whether entropies decide how much is committed, or when the cache is refreshed."""
        return self.config.commit == "entropy" or self.config.refresh_entropy > 0

    @property
    def suppress_ids(self) -> Ids:
        """Return the ids [s] that the model is to leave out; under guidance, they are left out after it."""
        return np.array(() if self.config.cfg_scale else self.config.suppress_tokens, np.int64)

    @property
    def past_position_ids(self) -> Ids:
        """Return the places of the cached keys and values, int64 [length]; -1 for those that the pass recomputes."""
        places = np.arange(self.canvas.length)
        places[self.computed] = -1
        return places

    def unconditional(self) -> Self:
        """Return the plan of the pass that guidance compares this one with: the given tokens are masked."""
        blind = self.canvas.unconditional(self.initial, self.special.mask, self.config.cfg_keep_tokens)
        kv = None if self.kv is None else KVPair(self.kv.unconditional)
        return replace(self, canvas=blind, kv=kv, wants_logits=True)


@dataclass(eq=False)
class CachePolicy:
    """Decides, pass by pass, what is computed of one sequence, and holds what a full pass returned for the next ones.

    While a block is active, only its own tokens change, and older masks that were left over: a cached pass computes
    these. Those among them that have been committed since are still computed, because the full pass saw their masks.

    Attributes:
        config: The options.
        mask: The id of `<mask>`.
    """

    config: GenerationConfig
    mask: int
    _block: int = -1
    _computed: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    _kv: KVPair | None = None
    _age: int = 0  # passes since the last full one, inclusive

    def cached(self, block: int) -> tuple[Ids, KVPair] | None:
        """Return the places that a cached pass computes and the cache it reads, or None if the pass is a full one."""
        if self._kv is not None and block == self._block and self._age != self.config.refresh_steps:
            return self._computed, self._kv
        return None

    def start(self, canvas: Canvas, block: int) -> bool:
        """Start a full pass for `block`, and return whether to keep its keys and values."""
        self._kv = None  # so that its memory serves the pass that replaces it
        self._block, self._age, self._computed = block, 0, self._changing(canvas, block)
        cached = self.config.cache == "block" and self.config.refresh_steps != 1
        return cached and len(self._computed) < canvas.length

    def committed(self, kv: KVPair | None, entropies: Floats) -> None:
        """Record the cache of a full pass, None after a cached one, and the entropies [m] of its commits, in nats."""
        self._age += 1
        self._kv = kv or self._kv
        limit = self.config.refresh_entropy
        if limit and entropies.max(initial=0) > limit:
            self._kv = None

    def clear(self) -> None:
        """Release the cache."""
        self._kv = None

    def _changing(self, canvas: Canvas, block: int) -> Ids:
        """Return the places [seq] that can change while `block` is active, ascending."""
        span = canvas.block(block, self.config.block_length)
        changes = np.zeros(canvas.length, bool)
        changes[span.start : span.end] = True
        changes[canvas.candidates(span, self.mask)] = True
        return np.flatnonzero(changes)
