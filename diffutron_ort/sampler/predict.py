"""One pass over several sequences: a token for every candidate position, and the odds against it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import NumericsError
from diffutron_ort.runtime.contract import REDUCTIONS, Forward, PassInput, Past, Predictions
from diffutron_ort.sampler import random, sampling
from diffutron_ort.sampler.cache import KVPair, PassPlan
from diffutron_ort.sampler.ragged import padded, repeated
from diffutron_ort.types import Floats, Ids

SEEN = 16
"""Numbers of seen ids are padded to a multiple of it, so that sums over them are rounded alike in any company."""


class Best(NamedTuple):
    """The best tokens of n positions, best first, the lower id first among equals.

    Attributes:
        ids: int64 [n, k].
        logprobs: float64 [n, k], the logarithms of their probabilities after penalty and guidance, at temperature 1.
    """

    ids: Ids
    logprobs: NDArray[np.float64]

    def at(self, rows: NDArray[np.intp]) -> "Best":
        """Return those of some of the positions, in the order of `rows` [m]."""
        return Best(self.ids[rows], self.logprobs[rows])


class Candidates(NamedTuple):
    """What a step could commit to one canvas.

    Attributes:
        positions: int64 [n], the candidates, ascending.
        tokens: int64 [n], one for each.
        odds_against: float64 [n], the odds against each token.
        logprobs: float64 [n], the logarithm of each token's probability, at temperature 1.
        deciding: float64 [n], the odds that decide which tokens are committed first, the lowest: those against each
            token; of a sequence whose tokens are given, those against the token that it would have chosen.
        withheld: bool [n], those whose token is not known, so that any other is committed before them.
        entropies: float [n], of the distribution of each, in nats; without meaning unless its plan wants them.
        expected_misses: The number of draws expected to fall beyond the best tokens that a pass returns.
        kv: The keys and values that the pass returned, if its plan asked for them.
        best: The best tokens of each, and their probabilities.
    """

    positions: Ids
    tokens: Ids
    odds_against: NDArray[np.float64]
    logprobs: NDArray[np.float64]
    deciding: NDArray[np.float64]
    withheld: NDArray[np.bool_]
    entropies: Floats
    expected_misses: float
    kv: KVPair | None
    best: Best


def predict(forward: Forward, plans: Sequence[PassPlan]) -> list[Candidates]:
    """Return the candidates of each plan, from one pass over them all; guidance takes a second one.

    Args:
        forward: The model.
        plans: Either all with a cache to read, or all without; and either all with ids to suppress, or all without.

    Raises:
        NumericsError: The model returned something that is not finite.
    """
    shared = _Pass(forward, plans)
    guided = [i for i, plan in enumerate(plans) if plan.config.cfg_scale]
    blind = _Pass(forward, [plans[i].unconditional() for i in guided]) if guided else None
    found = []
    for i, plan in enumerate(plans):
        place = guided.index(i) if i in guided else None
        unconditional = None if blind is None or place is None else blind.logits(place)
        blind_kv = None if blind is None or place is None or not plan.return_kv else blind.kv(place)
        kv = KVPair(shared.kv(i), blind_kv) if plan.return_kv else None
        found.append(_candidates(shared, i, unconditional, kv))
    return found


class _Pass:
    """A pass, and what it predicts for each of its sequences."""

    def __init__(self, forward: Forward, plans: Sequence[PassPlan]) -> None:
        self._forward, self.plans = forward, plans
        self._seen = [seen_ids(plan) for plan in plans]
        self._given = _pass_input(plans, self._seen)
        self._found = forward(self._given)
        self._ends = np.cumsum([0, *(len(plan.positions) for plan in plans)])

    def predictions(self, i: int) -> Predictions:
        """Return the predictions of sequence `i`."""
        own = slice(self._ends[i], self._ends[i + 1])
        rows: dict[str, Any] = {name: getattr(self._found, name)[own] for name in (*REDUCTIONS, "target_logits")}
        return Predictions(**rows)

    def logits(self, i: int) -> Floats:
        """Return raw logits [n, vocab] of sequence `i`; run the pass again if it did not return them."""
        if self._found.logits is None:
            again = self._forward(replace(self._given, want_logits=True, return_kv=False))
            self._found = replace(self._found, logits=again.logits)
        assert self._found.logits is not None, "a forward that is asked for logits returns them"
        return self._found.logits[self._ends[i] : self._ends[i + 1]]

    def adjusted(self, i: int, logits: Floats) -> Floats:
        """Return raw `logits` [n, vocab] of sequence `i` after the repetition penalty, -inf for suppressed ids."""
        ids, penalty = self._seen[i]
        penalised = sampling.penalise(logits, ids, float(penalty))
        penalised[:, self.plans[i].config.suppress_tokens] = -np.inf
        return penalised

    def seen(self, i: int) -> tuple[Ids, np.float32]:
        """Return the ids [u] under repetition penalty in sequence `i`, and the penalty."""
        return self._seen[i]

    def kv(self, i: int) -> object:
        """Return the cache of sequence `i`."""
        caches = self._found.kv_caches
        assert caches is not None, "a forward that is asked for caches returns them"
        return caches[i]


def _candidates(shared: _Pass, i: int, unconditional: Floats | None, kv: KVPair | None) -> Candidates:
    """Return what sequence `i` of a pass could commit, given or drawn from what the pass predicts for it."""
    plan, config = shared.plans[i], shared.plans[i].config
    logits = None if unconditional is None else sampling.guide(shared.logits(i), unconditional, config.cfg_scale)
    adjusted = None if logits is None else shared.adjusted(i, logits)
    predictions = (
        shared.predictions(i) if adjusted is None else sampling.reduce_logits(adjusted, tempering(config.temperature))
    )
    check_numbers(predictions, plan.wants_entropy, f"in step {plan.step} of block {plan.block}")
    best, misses = predictions.top_logits[:, 0], 0.0
    tokens, chosen = predictions.top_ids[:, 0], best
    if config.temperature:
        tokens, chosen = _drawn(shared, i, predictions, logits)
        misses = float(sampling.missing_mass(predictions, tempering(config.temperature)).sum())
    deciding = odds = sampling.odds_against(chosen, best, predictions.rest)
    if plan.forced is not None:
        tokens = plan.forced[plan.positions]
        chosen = _given(shared, i, predictions, adjusted, tokens)
        odds = sampling.odds_against(chosen, best, predictions.rest)
    return Candidates(
        positions=plan.positions,
        tokens=tokens,
        odds_against=odds,
        logprobs=sampling.logprobs(chosen, best, predictions.rest),
        deciding=deciding,
        withheld=tokens == plan.special.mask if plan.forced is not None else np.zeros(len(tokens), bool),
        entropies=predictions.entropy,
        expected_misses=misses,
        kv=kv,
        best=Best(predictions.top_ids, sampling.logprobs(predictions.top_logits, best, predictions.rest)),
    )


def _given(shared: _Pass, i: int, predictions: Predictions, adjusted: Floats | None, tokens: Ids) -> Floats:
    """Return the logit [n] of a given token for each row of sequence `i`, after penalty and suppression.

    `adjusted` [n, vocab] are the logits after guidance, None without it.
    """
    if adjusted is not None:
        logits: Floats = np.take_along_axis(adjusted, tokens[:, None], axis=1)[:, 0]
        return logits
    ids, penalty = shared.seen(i)
    raw = predictions.target_logits[:, :1]
    penalised = np.where(np.isin(tokens, ids)[:, None], sampling.penalise_all(raw, float(penalty)), raw)
    penalised[np.isin(tokens, shared.plans[i].config.suppress_tokens)] = -np.inf
    return sampling.known_logits(predictions, tokens[:, None], penalised)[:, 0]


def _drawn(shared: _Pass, i: int, predictions: Predictions, logits: Floats | None) -> tuple[Ids, Floats]:
    """Return a token [n] drawn for each row of sequence `i`, and its penalised logit [n].

    `logits` [n, vocab] are those after guidance, None without it.
    """
    plan = shared.plans[i]
    temperature, last = tempering(plan.config.temperature), predictions.top_ids.shape[1] - 1
    u = random.uniform(plan.canvas.seed, random.Stream.TOKEN, plan.block, plan.step, plan.positions)
    choice = sampling.draw(predictions, temperature, u)
    pick = np.minimum(choice, last)[:, None]
    tokens = np.take_along_axis(predictions.top_ids, pick, axis=1)[:, 0]
    chosen = np.take_along_axis(predictions.top_logits, pick, axis=1)[:, 0]
    beyond = np.flatnonzero(choice > last)
    if beyond.size:
        raw = shared.logits(i) if logits is None else logits
        for row, adjusted in zip(beyond, shared.adjusted(i, raw[beyond]), strict=True):
            total = 1 + float(predictions.rest_tempered[row])
            tokens[row] = sampling.draw_beyond(adjusted, temperature, float(u[row]), total, predictions.top_ids[row])
            chosen[row] = adjusted[tokens[row]]
    return tokens, chosen


def tempering(temperature: float) -> float:
    """Return the temperature of the tempered sums, rounded as the graph has it; 1 where the best token is taken."""
    return float(np.float32(temperature or 1.0))


def seen_ids(plan: PassPlan) -> tuple[Ids, np.float32]:
    """Return the ids [u] under repetition penalty, ascending, and the penalty: 1 if there are none."""
    exempt = (plan.special.mask, plan.special.eos, *plan.config.penalty_exempt)
    ids = np.sort(plan.canvas.ids)
    first = np.append(True, ids[1:] != ids[:-1])  # not np.unique, whose first call imports numpy.ma: 10 ms of a start
    ids = ids[first & ~np.isin(ids, exempt)]
    return ids, np.float32(plan.config.repetition_penalty if ids.size else 1)


def _pass_input(plans: Sequence[PassPlan], seen: Sequence[tuple[Ids, np.float32]]) -> PassInput:
    """Return the inputs of one pass over what the plans compute, the shorter sequences padded on the right."""
    longest = max(len(plan.computed) for plan in plans)
    rows = np.concatenate([i * longest + plan.rows for i, plan in enumerate(plans)])
    return PassInput(
        input_ids=padded([plan.canvas.ids[plan.computed] for plan in plans], plans[0].special.pad),
        position_ids=padded([plan.computed for plan in plans], -1),
        rows=rows,
        seen_ids=repeated([ids for ids, _ in seen], SEEN),
        suppress_ids=repeated([plan.suppress_ids for plan in plans]),
        repetition_penalty=np.array([penalty for _, penalty in seen], np.float32),
        temperature=np.array([tempering(plan.config.temperature) for plan in plans], np.float32),
        target_ids=_target_ids(plans),
        want_logits=any(plan.wants_logits for plan in plans),
        want_entropy=any(plan.wants_entropy for plan in plans),
        past=_past(plans),
        return_kv=any(plan.return_kv for plan in plans),
    )


def _target_ids(plans: Sequence[PassPlan]) -> Ids:
    """Return the ids whose logits the plans want, [n, t]: of each row the token that is given for it, if any are."""
    given = [plan.canvas.ids if plan.forced is None else plan.forced for plan in plans]
    wanted = int(any(plan.forced is not None for plan in plans))
    return np.concatenate([ids[plan.positions] for ids, plan in zip(given, plans, strict=True)])[:, None][:, :wanted]


def _past(plans: Sequence[PassPlan]) -> Past | None:
    """Return what the pass reads of earlier ones."""
    caches = [plan.kv.conditional for plan in plans if plan.kv is not None]
    if not caches:
        return None
    assert len(caches) == len(plans), "full and cached passes do not mix"
    return Past(padded([plan.past_position_ids for plan in plans], -1), caches)


def check_numbers(predictions: Predictions, wants_entropy: bool, where: str) -> None:
    """Raise unless all that is wanted is finite, no sum is below 0, and the best token is the best.

    A target's logit may also be -inf.

    Raises:
        NumericsError: They are not; it says `where`.
    """
    best, rest, tempered = predictions.top_logits[:, :1], predictions.rest, predictions.rest_tempered
    wanted = (best, rest, tempered, *([predictions.entropy] if wants_entropy else ()))
    finite = all(np.isfinite(values).all() for values in wanted) and bool((predictions.target_logits < np.inf).all())
    if not (finite and (rest >= 0).all() and (tempered >= 0).all() and (predictions.top_logits <= best).all()):
        raise NumericsError(
            f"{where}, the model returned values that are not finite or that contradict one another: its weights are "
            "broken, or its precision is too low; verify the bundle, or use another variant"
        )
