"""Whether an error in the logits could change a step of a generation: its tokens, its positions or their order."""

from collections import abc
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions
from diffutron_ort.sampler import sampling
from diffutron_ort.sampler.cache import PassPlan
from diffutron_ort.sampler.commit import RULES
from diffutron_ort.sampler.engine import Engine
from diffutron_ort.sampler.predict import seen_ids, tempering
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.sampler.sequence import Sequence, Step
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.draws import Ranks, Reals, drawn_ranks, leads, odds_factor, stays_beyond


class Watched:
    """A model that remembers what its passes return."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.batch_invariant = forward, forward.batch_invariant
        self.found: list[Predictions] = []

    def __call__(self, given: PassInput, /) -> Predictions:
        """Run a pass."""
        self.found.append(self.forward(given))
        return self.found[-1]


class Bounds(NamedTuple):
    """What an error can make of the candidates of a step, each [n].

    Attributes:
        sure: Whether the token stays the same.
        least: The lowest odds against the token, or against any that could take its place.
        most: The highest odds against the token, if it is sure.
        entropies: In nats; off by at most the same factor as the odds, because the derivative along such an error is
            at most twice the entropy itself.
    """

    sure: NDArray[np.bool_]
    least: Reals
    most: Reals
    entropies: Reals

    def of(self, some: Ranks) -> "Bounds":
        """Return the bounds of some of the candidates, by their indices."""
        return Bounds(self.sure[some], self.least[some], self.most[some], self.entropies[some])


def clear_steps(sequence: Sequence, forward: Forward, error: float) -> list[Step] | None:
    """Run a sequence to completion; return its steps, or None if an error in the logits could change one of them.

    Args:
        sequence: Before its first step.
        forward: The model.
        error: The largest error of a raw logit.
    """
    steps, watched = [], Watched(forward)
    engine = Engine(watched)
    while not sequence.finished:
        plan, scheduled = sequence.plan(), sequence.cursor.counts[sequence.cursor.step]
        watched.found.clear()
        [step] = engine.step([sequence])
        if not is_clear(plan, scheduled, watched.found, step.positions, error):
            return None
        steps.append(step)
    return steps


def is_clear(plan: PassPlan, scheduled: int, found: abc.Sequence[Predictions], committed: Ids, error: float) -> bool:
    """Return whether no error in the logits can change what a step commits, or whether the next one reads the cache.

    Args:
        plan: What its pass computed.
        scheduled: How many tokens the schedule commits.
        found: What its passes returned; under guidance, the unconditional one is the last.
        committed: int64 [m], the positions that it commits, in order.
        error: The largest error of a raw logit.
    """
    config = plan.config
    error *= (1 + 2 * config.cfg_scale) * max(config.repetition_penalty, 1 / config.repetition_penalty)
    bounds = _bounds(plan, *_penalised(plan, found), error)
    first = np.searchsorted(plan.positions, committed)
    chosen, rest = bounds.of(first), bounds.of(np.delete(np.arange(len(plan.positions)), first))
    return bool(
        chosen.sure.all()
        and (config.remasking == "random" or _is_ordered(chosen, rest))
        and _is_counted(chosen, rest, scheduled, config, odds_factor(error))
        and _refresh_is_clear(chosen.entropies.max(), config.refresh_entropy, odds_factor(error))
    )


def _penalised(plan: PassPlan, found: abc.Sequence[Predictions]) -> tuple[Predictions, Floats | None]:
    """Return what a step's tokens are drawn from, and the logits [n, vocab] behind it if the passes returned any."""
    config, logits = plan.config, found[-1].logits
    if logits is None:
        return found[-1], None
    if config.cfg_scale:
        assert found[-2].logits is not None, "guidance asks for logits"
        logits = sampling.guide(found[-2].logits, logits, config.cfg_scale)
    ids, penalty = seen_ids(plan)
    penalised = sampling.penalise(logits, ids, float(penalty))
    penalised[:, config.suppress_tokens] = -np.inf
    return sampling.reduce_logits(penalised, tempering(config.temperature)), penalised


def _bounds(plan: PassPlan, predictions: Predictions, logits: Floats | None, error: float) -> Bounds:
    """Return what an error of the penalised logits can make of the candidates."""
    top = predictions.top_logits.astype(np.float64)  # [n, k]
    lines, k, temperature = np.arange(len(top)), top.shape[1], tempering(plan.config.temperature)
    u = uniform(plan.canvas.seed, Stream.TOKEN, plan.block, plan.step, plan.positions)
    low, high = _ranks(plan, predictions, u, error)
    rank = np.minimum(low, k - 1)
    sure, logit = (low == high) & (low < k) & (leads(top)[lines, rank] > 2 * error), top[lines, rank]
    for row in np.flatnonzero(low == k):
        assert logits is not None, "the loop asks for logits where it draws beyond the candidates"
        ids, total = predictions.top_ids[row], 1 + float(predictions.rest_tempered[row])
        token = sampling.draw_beyond(logits[row], temperature, u[row], total, ids)
        if stays_beyond(logits[row], ids, token, temperature, u[row], error):
            sure[row], logit[row] = True, logits[row, token]
    odds, factor = sampling.odds_against(logit, top[:, 0], predictions.rest), odds_factor(error)
    return Bounds(sure, odds / factor, odds * factor, predictions.entropy.astype(np.float64))


def _ranks(plan: PassPlan, predictions: Predictions, u: Reals, error: float) -> tuple[Ranks, Ranks]:
    """Return the lowest and the highest rank [n] that can be chosen; k is beyond the candidates."""
    if plan.config.temperature:
        return drawn_ranks(predictions, tempering(plan.config.temperature), u, error)
    best = np.zeros(len(u), np.intp)
    return best, best


def _is_ordered(chosen: Bounds, rest: Bounds) -> bool:
    """Return whether the chosen candidates stay the most certain ones, in their order."""
    least = np.append(chosen.least, rest.least.min(initial=np.inf))
    later = np.minimum.accumulate(least[::-1])[::-1][1:]  # the least of all that follow
    return bool((chosen.most < later).all())


def _is_counted(chosen: Bounds, rest: Bounds, scheduled: int, config: GenerationConfig, factor: float) -> bool:
    """Return whether the rule finds no more candidates certain enough, and no fewer."""
    rule, count = RULES[config.commit], len(chosen.sure)
    least = np.append(chosen.least, np.sort(rest.least))
    entropies = np.append(chosen.entropies, np.sort(rest.entropies)) / factor
    fewest = rule(chosen.most, chosen.entropies * factor, config)
    return rule(least, entropies, config) <= count <= max(scheduled, fewest)


def _refresh_is_clear(entropy: float, limit: float, factor: float) -> bool:
    """Return whether the largest entropy of the commits stays on its side of `refresh_entropy`."""
    return not entropy / factor <= limit < entropy * factor
