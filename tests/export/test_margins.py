"""A generation that is kept takes the same steps whatever error its logits have; one with a near-tie is not kept."""

from typing import Any

import numpy as np
import pytest

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Predictions
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import Engine, run
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.sampler.sampling import reduce_logits
from diffutron_ort.sampler.sequence import Sequence
from diffutron_ort.types import SpecialIds
from diffutron_ort_export.check.margins import clear_steps
from tests.fakes import Caching
from tests.golden.hash_model import HashModel
from tests.passes import predicted

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)
VOCAB, ERROR, REPEATS, CASES = 160, 2e-3, 4, 20
GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0}
BASE: dict[str, Any] = GREEDY | {"steps": 6, "max_new_tokens": 12, "block_length": 6}

OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalty": {"repetition_penalty": 1.5, "penalty_exempt": (10, 11)},
    "low temperature": {"temperature": 0.2},
    "temperature": {"temperature": 1.0, "repetition_penalty": 1.2},
    "beyond the candidates": {"temperature": 6.0, "steps": 12},
    "random": {"remasking": "random", "temperature": 0.5},
    "factor": {"commit": "factor", "commit_factor": 0.9},
    "entropy": {"commit": "entropy", "commit_entropy": 0.8},
    "refresh": {"cache": "block", "refresh_entropy": 0.5},
    "guidance": {"cfg_scale": 1.5},
    "suppress": {"suppress_tokens": tuple(range(0, VOCAB, 3)), "temperature": 0.5, "schedule": "cosine"},
}


class Peaked(HashModel):
    """A model whose logits are off by an error, each up or down."""

    def __init__(self, salt: int, error: float, noise: int) -> None:
        super().__init__(VOCAB, salt)
        self.error, self.random = np.float32(error), np.random.default_rng(noise)

    def logits(self, batch: Any) -> np.ndarray:
        raw = super().logits(batch) ** 3 / 9
        return raw + self.error * (2 * self.random.integers(0, 2, raw.shape) - 1).astype(np.float32)


def sequence(salt: int, options: dict[str, Any]) -> Sequence:
    config = GenerationConfig(**BASE | options)
    prompt = [20 + salt, 30, 40 + salt % 3]
    return Sequence(for_generation(prompt, config.max_new_tokens, SPECIAL.mask, seed=salt), config, SPECIAL)


def commits(steps: Any) -> list[tuple[list[int], list[int], int]]:
    return [(s.positions.tolist(), s.ids[s.positions].tolist(), s.num_computed) for s in steps]


def taken(salt: int, options: dict[str, Any], noise: int) -> list[tuple[list[int], list[int], int]]:
    """The steps of a model that is off by ERROR."""
    forward = Caching(Peaked(salt, ERROR, noise))
    return commits(step for _, step in run(Engine(forward), [sequence(salt, options)], 1))


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_kept_stays_the_same_whatever_the_error(name: str) -> None:
    options, kept, loose = OPTIONS[name], 0, []
    for salt in range(CASES):
        steps = clear_steps(sequence(salt, options), Caching(Peaked(salt, 0.0, 0)), ERROR)
        others = [taken(salt, options, noise) for noise in range(REPEATS)]
        if steps is not None:
            kept += 1
            assert all(other == commits(steps) for other in others), f"{name}, {salt}"
        else:
            loose.append(any(other != others[0] for other in others))
    assert kept >= 2
    assert any(loose), "the errors are large enough to change what is not kept"


NEAR = 1e-3  # the distance of a planted near-tie, as a logarithm of odds
PLACES = np.arange(3, 7)  # of the masks, behind a prompt of 3
FOUR: dict[str, Any] = GREEDY | {"steps": 4, "max_new_tokens": 4, "block_length": 4}


class Table:
    """A model that predicts the same logits, float32 [7, VOCAB], in every pass."""

    batch_invariant = True

    def __init__(self, table: np.ndarray) -> None:
        self.table = table.astype(np.float32)

    def __call__(self, batch: Any) -> Predictions:
        return predicted(self.table[batch.position_ids.reshape(-1)[batch.rows]], batch)


def far_apart() -> np.ndarray:
    """A table in which each mask has another best token, each with another lead."""
    table = np.zeros((7, VOCAB))
    table[PLACES, 50 + PLACES] = 15.0 - PLACES
    return table


def odds(table: np.ndarray, place: int) -> float:
    """The odds against the best token of a place."""
    return float(reduce_logits(table[place : place + 1], 1.0).rest[0])


def entropy(table: np.ndarray, place: int) -> float:
    return float(reduce_logits(table[place : place + 1], 1.0).entropy[0])


def seeded(low: float, high: float) -> tuple[int, float]:
    """A seed whose first uniform for the first mask is in a range, and that uniform."""
    draws = ((seed, float(uniform(seed, Stream.TOKEN, 0, 0, PLACES[:1])[0])) for seed in range(1000))
    return next((seed, u) for seed, u in draws if low < u < high)


def near_lead() -> tuple[np.ndarray, dict[str, Any]]:
    table = far_apart()
    table[4, 99] = table[4, 54] - NEAR
    return table, {}


def near_order() -> tuple[np.ndarray, dict[str, Any]]:
    table = far_apart()
    table[4, 54] = table[3, 53] - NEAR
    return table, {}


def near_order_of_two() -> tuple[np.ndarray, dict[str, Any]]:
    """Both are committed, in whatever order."""
    return near_order()[0], {"steps": 2}


def near_factor() -> tuple[np.ndarray, dict[str, Any]]:
    """The second is just certain enough."""
    table = far_apart()
    against = odds(table, 4) * np.exp(NEAR)
    return table, {"commit": "factor", "commit_factor": 3 * against / (1 + against)}


def far_factor() -> tuple[np.ndarray, dict[str, Any]]:
    """The second is just too uncertain."""
    table = far_apart()
    against = odds(table, 4) * np.exp(-NEAR)
    return table, {"commit": "factor", "commit_factor": 3 * against / (1 + against)}


def near_entropy() -> tuple[np.ndarray, dict[str, Any]]:
    table = far_apart()
    return table, {"commit": "entropy", "commit_entropy": entropy(table, 3) * np.exp(NEAR)}


def far_entropy() -> tuple[np.ndarray, dict[str, Any]]:
    table = far_apart()
    return table, {"commit": "entropy", "commit_entropy": entropy(table, 3) * np.exp(-NEAR)}


def near_refresh() -> tuple[np.ndarray, dict[str, Any]]:
    table = far_apart()
    return table, {"cache": "block", "refresh_entropy": entropy(table, 4) * np.exp(NEAR)}


def near_draw() -> tuple[np.ndarray, dict[str, Any]]:
    """The uniform is just within the best token."""
    table, (seed, u) = far_apart(), seeded(0.5, 0.7)
    table[3, 53] = np.log(u / (1 - u)) + np.log(VOCAB - 1) + NEAR
    return table, {"temperature": 1.0, "steps": 1, "seed": seed}


def near_rank() -> tuple[np.ndarray, dict[str, Any]]:
    """The uniform is well within the best token, and the second is almost as good."""
    table, (seed, _) = far_apart(), seeded(0.1, 0.3)
    table[3, 99] = table[3, 53] - NEAR
    return table, {"temperature": 1.0, "steps": 1, "seed": seed}


def near_candidate() -> tuple[np.ndarray, dict[str, Any]]:
    """What is drawn lies beyond the candidates, and the next token is almost one of them."""
    table, (seed, _) = far_apart(), seeded(0.5, 0.9)
    table[3] = np.arange(VOCAB) * 0.01 - 1
    table[3, : VOCAB - 64] += 0.01 - NEAR
    return table, {"temperature": 1000.0, "max_new_tokens": 1, "seed": seed}


def amplified(options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    return near_order()[0], options


PLANTED = {
    "lead": (near_lead(), 1.0),
    "order": (near_order(), 2.0),
    "order of two": (near_order_of_two(), 2.0),
    "factor": (near_factor(), 1.0),
    "factor, one more": (far_factor(), 1.0),
    "entropy": (near_entropy(), 1.0),
    "entropy, one more": (far_entropy(), 1.0),
    "refresh": (near_refresh(), 1.0),
    "draw": (near_draw(), 1.0),
    "rank": (near_rank(), 1.0),
    "candidate": (near_candidate(), 1.0),
    "guidance": (amplified({"cfg_scale": 1.5}), 2 * 4.0),
    "penalty": (amplified({"repetition_penalty": 1.5}), 2 * 1.5),
    "reward": (amplified({"repetition_penalty": 0.5}), 2 * 2.0),
}
"""Logits and options, and how many times NEAR an error of NEAR / 2 moves what is near: twice if both sides move."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_near_tie_is_dropped_once_the_error_reaches_it(name: str) -> None:
    (table, options), times = PLANTED[name]
    config, reached = GenerationConfig(**FOUR | options), NEAR / 2 / times

    def kept(error: float) -> bool:
        canvas = for_generation([20, 30, 40], config.max_new_tokens, SPECIAL.mask, seed=config.seed)
        return clear_steps(Sequence(canvas, config, SPECIAL), Caching(Table(table)), error) is not None

    assert kept(0.9 * reached)
    assert not kept(1.1 * reached)
