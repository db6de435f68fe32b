"""One pass: canvases in, a token and a doubt for every candidate position out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffutron_ort import sampling
from diffutron_ort.canvas import Canvas, SpecialIds
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import NumericsError
from diffutron_ort.sampling import Floats, Ids, Predictions, Stream

# Where more draws than this are expected to fall beyond the candidates, the next pass fetches the whole logits at
# once: copying them costs about a twentieth of the second pass that they save.
LIKELY_MISS = 0.05


@dataclass(frozen=True)
class Batch:
    """The inputs of one pass that computes every token, named as in the denoiser's graph.

    Attributes:
        input_ids: int64 [batch, seq]; shorter sequences are padded on the right.
        position_ids: int64 [batch, seq]; -1 is padding.
        rows: int64 [n], flat indices into batch x seq, ascending.
        seen_ids: int64 [batch, u], the ids under repetition penalty, padded by repeating one.
        repetition_penalty: float32 [batch].
        temperature: float32 [batch].
    """

    input_ids: Ids
    position_ids: Ids
    rows: Ids
    seen_ids: Ids
    repetition_penalty: NDArray[np.float32]
    temperature: NDArray[np.float32]


class Forward(Protocol):
    """What the loop asks of a model."""

    def __call__(self, batch: Batch, *, logits: bool = False) -> Predictions:
        """Return the predictions of `batch.rows`; with `logits`, the raw ones of the whole vocabulary too."""
        ...


class Guess(NamedTuple):
    """What a step could commit to one canvas.

    Attributes:
        positions: int64 [n], the candidates, ascending.
        tokens: int64 [n], one for each.
        doubts: float64 [n], the odds against each.
    """

    positions: Ids
    tokens: Ids
    doubts: NDArray[np.float64]


class Predictor:
    """Asks a model for the candidates of canvases, and draws from what it says."""

    def __init__(self, forward: Forward, config: GenerationConfig, special: SpecialIds) -> None:
        self._forward = forward
        self._config = config
        self._special = special
        self._exempt = (special.mask, special.eos, *config.penalty_exempt)
        self._temperature = config.temperature or 1.0
        self._miss_is_likely = False

    def __call__(self, canvases: Sequence[Canvas], first: Sequence[Canvas], block: int, step: int) -> list[Guess]:
        """Return a guess for each canvas.

        Args:
            canvases: As they are.
            first: As they were before the first step: what they held was given.
            block: Number of the active block.
            step: Number of this step in it.

        Raises:
            NumericsError: The model returned something that is not finite.
        """
        config, mask = self._config, self._special.mask
        positions = [canvas.candidates(canvas.block(block, config.block_length), mask) for canvas in canvases]
        batch = self._batch(canvases, positions)
        predictions = self._predict(batch, canvases, first, positions)
        _check_finite(predictions, block, step)
        if config.temperature:
            pairs = zip(canvases, positions, strict=True)
            u = [sampling.uniform(canvas.seed, Stream.TOKEN, block, step, p) for canvas, p in pairs]
            tokens, logits = self._draw(predictions, batch, np.concatenate(u))
        else:
            tokens, logits = predictions.top_ids[:, 0], predictions.top_logits[:, 0]
        doubts = sampling.doubt(logits, predictions.top_logits[:, 0], predictions.rest)
        ends = np.cumsum([len(p) for p in positions])[:-1]
        return list(map(Guess, positions, np.split(tokens, ends), np.split(doubts, ends)))

    def _batch(self, canvases: Sequence[Canvas], positions: Sequence[Ids]) -> Batch:
        """Pad canvases to one batch."""
        size, longest = len(canvases), max(canvas.length for canvas in canvases)
        input_ids = np.full((size, longest), self._special.pad, np.int64)
        position_ids = np.full((size, longest), -1, np.int64)
        for i, canvas in enumerate(canvases):
            input_ids[i, : canvas.length] = canvas.ids
            position_ids[i, : canvas.length] = np.arange(canvas.length)
        seen_ids, penalties = self._seen(canvases)
        rows = np.concatenate([i * longest + p for i, p in enumerate(positions)])
        return Batch(input_ids, position_ids, rows, seen_ids, penalties, np.full(size, self._temperature, np.float32))

    def _seen(self, canvases: Sequence[Canvas]) -> tuple[Ids, NDArray[np.float32]]:
        """Return the ids under penalty [batch, u] and the penalty [batch] of each canvas."""
        seen = [np.setdiff1d(canvas.ids, self._exempt) for canvas in canvases]
        penalties = np.array([self._config.repetition_penalty if ids.size else 1 for ids in seen], np.float32)
        width = max(1, *(ids.size for ids in seen))
        filled = [ids if ids.size else np.zeros(1, np.int64) for ids in seen]
        return np.stack([np.pad(ids, (0, width - ids.size), mode="edge") for ids in filled]), penalties

    def _predict(
        self, batch: Batch, canvases: Sequence[Canvas], first: Sequence[Canvas], positions: Sequence[Ids]
    ) -> Predictions:
        """Run the pass or, under guidance, both, and reduce what they say where the graph cannot."""
        config = self._config
        if not config.cfg_scale and not config.suppress_tokens:
            return self._forward(batch, logits=self._miss_is_likely)
        logits = _raw_logits(self._forward, batch)
        if config.cfg_scale:
            pairs = zip(canvases, first, strict=True)
            blind = [canvas.unconditional(given, self._special.mask, config.cfg_keep_tokens) for canvas, given in pairs]
            unconditional = replace(batch, input_ids=self._batch(blind, positions).input_ids)
            logits = sampling.guide(logits, _raw_logits(self._forward, unconditional), config.cfg_scale)
        if config.suppress_tokens:
            logits[:, config.suppress_tokens] = -np.inf
        penalised = _penalise(logits, batch, np.arange(len(batch.rows)))
        return replace(sampling.reduce_logits(penalised, self._temperature), logits=logits)

    def _draw(self, predictions: Predictions, batch: Batch, u: NDArray[np.float64]) -> tuple[Ids, Floats]:
        """Return a token [n] drawn for each row, and its logit [n]."""
        temperature, last = self._temperature, predictions.top_ids.shape[1] - 1
        choice = sampling.draw(predictions, temperature, u)
        pick = np.minimum(choice, last)[:, None]
        tokens = np.take_along_axis(predictions.top_ids, pick, axis=1)[:, 0]
        logits = np.take_along_axis(predictions.top_logits, pick, axis=1)[:, 0]
        beyond = np.flatnonzero(choice > last)
        if beyond.size:
            raw = predictions.logits if predictions.logits is not None else _raw_logits(self._forward, batch)
            for i, row in zip(beyond, _penalise(raw[beyond], batch, beyond), strict=True):
                total = 1 + float(predictions.rest_tempered[i])
                tokens[i] = sampling.draw_beyond(row, temperature, float(u[i]), total, predictions.top_ids[i])
                logits[i] = row[tokens[i]]
        self._miss_is_likely = float(sampling.missing_mass(predictions, temperature).sum()) > LIKELY_MISS
        return tokens, logits


def _raw_logits(forward: Forward, batch: Batch) -> Floats:
    """Return the raw logits [n, vocab], as an array that may be written."""
    logits = forward(batch, logits=True).logits
    assert logits is not None, "a forward that is asked for logits returns them"
    return np.array(logits)


def _penalise(logits: Floats, batch: Batch, which: NDArray[np.intp]) -> Floats:
    """Return `logits` [m, vocab] of the rows `which` [m] of a batch after their sequences' repetition penalties."""
    penalised = np.empty_like(logits)
    sequences = batch.rows[which] // batch.input_ids.shape[1]
    for i in np.unique(sequences):
        own = sequences == i
        penalised[own] = sampling.penalise(logits[own], batch.seen_ids[i], float(batch.repetition_penalty[i]))
    return penalised


def _check_finite(predictions: Predictions, block: int, step: int) -> None:
    best = predictions.top_logits[:, 0]
    if not all(np.isfinite(values).all() for values in (best, predictions.rest, predictions.rest_tempered)):
        raise NumericsError(
            f"the model returned logits that are not finite in step {step} of block {block}: its weights, or the "
            "precision it runs in, are broken; check the bundle's files, or use the variant fp32"
        )
