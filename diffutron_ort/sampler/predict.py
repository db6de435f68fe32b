"""One pass: canvases in, a token and a doubt for every candidate position out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import NumericsError, ProviderError
from diffutron_ort.runtime.contract import Batch, Forward, Past, Predictions
from diffutron_ort.sampler import random, sampling
from diffutron_ort.sampler.cache import Kept, View
from diffutron_ort.sampler.random import Stream
from diffutron_ort.types import Floats, Ids, SpecialIds

# Where more draws than this are expected to fall beyond the candidates, the next pass fetches the whole logits at
# once: copying them costs about a twentieth of the second pass that they save.
LIKELY_MISS = 0.05


class Guess(NamedTuple):
    """What a step could commit to one canvas.

    Attributes:
        positions: int64 [n], the candidates, ascending.
        tokens: int64 [n], one for each.
        doubts: float64 [n], the odds against each.
        entropies: float [n], of the distribution of each, in nats.
        kept: What the pass left for later ones, if its view wanted that.
    """

    positions: Ids
    tokens: Ids
    doubts: NDArray[np.float64]
    entropies: Floats
    kept: Kept | None


class Predictor:
    """Asks a model for the candidates of canvases, and draws from what it says."""

    def __init__(self, forward: Forward, config: GenerationConfig, special: SpecialIds) -> None:
        self._forward = forward
        self._config = config
        self._special = special
        self._exempt = (special.mask, special.eos, *config.penalty_exempt)
        self._temperature = float(np.float32(config.temperature or 1.0))  # as the graph has it: one number for all sums
        self._miss_is_likely = False

    def __call__(self, views: Sequence[View], block: int, step: int) -> list[Guess]:
        """Return a guess for each view of a canvas.

        Args:
            views: What to compute; one alone where a cache is read or kept.
            block: Number of the active block.
            step: Number of this step in it.

        Raises:
            NumericsError: The model returned something that is not finite.
            ProviderError: There is not enough memory.
        """
        try:
            return self._guesses(views, block, step)
        except MemoryError as error:
            raise ProviderError("there is not enough memory for a pass: give shorter or fewer texts at once") from error

    def _guesses(self, views: Sequence[View], block: int, step: int) -> list[Guess]:
        config, mask = self._config, self._special.mask
        spans = [view.canvas.block(block, config.block_length) for view in views]
        positions = [view.canvas.candidates(span, mask) for view, span in zip(views, spans, strict=True)]
        batch = self._batch(views, positions)
        predictions, kept = self._predict(batch, views)
        _check_numbers(predictions, block, step)
        if config.temperature:
            pairs = zip(views, positions, strict=True)
            u = [random.uniform(view.canvas.seed, Stream.TOKEN, block, step, p) for view, p in pairs]
            tokens, logits = self._draw(predictions, batch, np.concatenate(u))
        else:
            tokens, logits = predictions.top_ids[:, 0], predictions.top_logits[:, 0]
        doubts = sampling.doubt(logits, predictions.top_logits[:, 0], predictions.rest)
        ends = np.cumsum([len(p) for p in positions])[:-1]
        split = (np.split(values, ends) for values in (tokens, doubts, predictions.entropy))
        return [Guess(p, t, d, e, kept) for p, t, d, e in zip(positions, *split, strict=True)]

    def _batch(self, views: Sequence[View], positions: Sequence[Ids]) -> Batch:
        """Pad what is computed to one batch that asks for `positions`."""
        size, longest = len(views), max(len(view.computed) for view in views)
        input_ids = np.full((size, longest), self._special.pad, np.int64)
        position_ids = np.full((size, longest), -1, np.int64)
        for i, view in enumerate(views):
            input_ids[i, : len(view.computed)] = view.canvas.ids[view.computed]
            position_ids[i, : len(view.computed)] = view.computed
        places = [np.searchsorted(view.computed, p) for view, p in zip(views, positions, strict=True)]
        rows = np.concatenate([i * longest + place for i, place in enumerate(places)])
        seen_ids, penalties = self._seen(views)
        temperatures = np.full(size, self._temperature, np.float32)
        batch = Batch(input_ids, position_ids, rows, seen_ids, penalties, temperatures)
        return _with_cache(batch, views)

    def _seen(self, views: Sequence[View]) -> tuple[Ids, NDArray[np.float32]]:
        """Return the ids under penalty [batch, u] and the penalty [batch] of each canvas."""
        seen = [np.setdiff1d(view.canvas.ids, self._exempt) for view in views]
        penalties = np.array([self._config.repetition_penalty if ids.size else 1 for ids in seen], np.float32)
        width = max(1, *(ids.size for ids in seen))
        filled = [ids if ids.size else np.zeros(1, np.int64) for ids in seen]
        return np.stack([np.pad(ids, (0, width - ids.size), mode="edge") for ids in filled]), penalties

    def _predict(self, batch: Batch, views: Sequence[View]) -> tuple[Predictions, Kept | None]:
        """Run the pass or, under guidance, both, and reduce what they say where the graph cannot."""
        config = self._config
        if not config.cfg_scale and not config.suppress_tokens:
            predictions = self._forward(batch, logits=self._miss_is_likely)
            return predictions, _kept(batch, predictions.kept)
        logits, conditional = _raw_logits(self._forward, batch)
        unconditional = None
        if config.cfg_scale:
            blind, unconditional = _raw_logits(self._forward, self._unconditional(batch, views))
            logits = sampling.guide(logits, blind, config.cfg_scale)
        if config.suppress_tokens:
            logits[:, config.suppress_tokens] = -np.inf
        penalised = _penalise(logits, batch, np.arange(len(batch.rows)))
        predictions = replace(sampling.reduce_logits(penalised, self._temperature), logits=logits)
        return predictions, _kept(batch, conditional, unconditional)

    def _unconditional(self, batch: Batch, views: Sequence[View]) -> Batch:
        """Return the batch of the same places with a mask for each token that was given."""
        input_ids, past = batch.input_ids.copy(), batch.past
        for i, view in enumerate(views):
            blind = view.canvas.unconditional(view.first, self._special.mask, self._config.cfg_keep_tokens)
            input_ids[i, : len(view.computed)] = blind.ids[view.computed]
            past = past and view.kept and replace(past, kept=view.kept.unconditional)
        return replace(batch, input_ids=input_ids, past=past)

    def _draw(self, predictions: Predictions, batch: Batch, u: NDArray[np.float64]) -> tuple[Ids, Floats]:
        """Return a token [n] drawn for each row, and its logit [n]."""
        temperature, last = self._temperature, predictions.top_ids.shape[1] - 1
        choice = sampling.draw(predictions, temperature, u)
        pick = np.minimum(choice, last)[:, None]
        tokens = np.take_along_axis(predictions.top_ids, pick, axis=1)[:, 0]
        logits = np.take_along_axis(predictions.top_logits, pick, axis=1)[:, 0]
        beyond = np.flatnonzero(choice > last)
        if beyond.size:
            raw = predictions.logits
            if raw is None:
                raw, _ = _raw_logits(self._forward, replace(batch, keep=False))
            for i, row in zip(beyond, _penalise(raw[beyond], batch, beyond), strict=True):
                total = 1 + float(predictions.rest_tempered[i])
                tokens[i] = sampling.draw_beyond(row, temperature, float(u[i]), total, predictions.top_ids[i])
                logits[i] = row[tokens[i]]
        self._miss_is_likely = float(sampling.missing_mass(predictions, temperature).sum()) > LIKELY_MISS
        return tokens, logits


def _with_cache(batch: Batch, views: Sequence[View]) -> Batch:
    """Return the batch of one view with the past that it wants to read or to leave; several have none."""
    view = views[0]
    if view.kept is None and not view.keep:
        return batch
    assert len(views) == 1, "a cache is one sequence's"
    past = view.kept and Past(view.past_position_ids[None], view.kept.conditional)
    return replace(batch, past=past, keep=view.keep)


def _kept(batch: Batch, conditional: object, unconditional: object = None) -> Kept | None:
    """Return what a pass left for later ones, None where it was not asked to leave anything."""
    assert not batch.keep or conditional is not None, "a forward that is asked to keep something hands it back"
    return Kept(conditional, unconditional) if batch.keep else None


def _raw_logits(forward: Forward, batch: Batch) -> tuple[Floats, object]:
    """Return the raw logits [n, vocab], as an array that may be written, and what the pass left for later ones."""
    predictions = forward(batch, logits=True)
    assert predictions.logits is not None, "a forward that is asked for logits returns them"
    return np.array(predictions.logits), predictions.kept


def _penalise(logits: Floats, batch: Batch, which: NDArray[np.intp]) -> Floats:
    """Return `logits` [m, vocab] of the rows `which` [m] of a batch after their sequences' repetition penalties."""
    penalised = np.empty_like(logits)
    sequences = batch.rows[which] // batch.input_ids.shape[1]
    for i in np.unique(sequences):
        own = sequences == i
        penalised[own] = sampling.penalise(logits[own], batch.seen_ids[i], float(batch.repetition_penalty[i]))
    return penalised


def _check_numbers(predictions: Predictions, block: int, step: int) -> None:
    """Refuse what is not finite, and what no logits have: sums below 0, or a best token that is not the best."""
    best, rest, tempered = predictions.top_logits[:, :1], predictions.rest, predictions.rest_tempered
    finite = all(np.isfinite(values).all() for values in (best, rest, tempered, predictions.entropy))
    if not (finite and (rest >= 0).all() and (tempered >= 0).all() and (predictions.top_logits <= best).all()):
        raise NumericsError(
            f"the model returned logits that are not finite in step {step} of block {block}, or sums that no logits "
            "have: its weights, or the precision it runs in, are broken; check the bundle's files, or use the variant "
            "fp32"
        )
