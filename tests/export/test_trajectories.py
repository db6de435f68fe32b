"""Following a model's generations: the steps that are asked about, the reference's commits by hand, and the figures."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort_export.check import trajectories
from diffutron_ort_export.check.reference import Asked, Columns, Reference
from diffutron_ort_export.check.trajectories import (
    ANSWER,
    QUICK,
    THOROUGH,
    Commit,
    Followed,
    best_tokens,
    commits,
    followed,
    trajectory_card,
)
from diffutron_ort_export.checkpoint.source import Source, open_source
from tests.export.conftest import TINY

MASK, EOS = 4, 1


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


class ReferenceForward:
    """The reference as a model for the engine, a sequence at a time."""

    batch_invariant = False

    def __init__(self, source: Source) -> None:
        self.reference = Reference(source.weights, source.shape)

    def __call__(self, given: PassInput, /) -> Predictions:
        logits = self.reference.logits([Asked(given.input_ids[0], given.rows)]).astype(np.float64)
        seen = given.seen_ids[0]
        logits[:, seen] = np.where(logits[:, seen] > 0, logits[:, seen] / 1.2, logits[:, seen] * 1.2)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :64]
        top = np.take_along_axis(logits, order, axis=1)
        rest = np.exp(logits - top[:, :1]).sum(axis=1) - 1
        return Predictions(order, top, rest, rest, np.zeros(len(rest)), np.zeros((len(rest), 0)))


@pytest.mark.parametrize("plan", [QUICK, THOROUGH, trajectories.Plan(16, 3)])
def test_a_model_that_follows_itself_always_agrees(source: Source, plan: trajectories.Plan) -> None:
    """The law behind the figures: float32 asked at its own canvases commits what it committed."""
    steps = followed(ReferenceForward(source), source, plan)
    card = trajectory_card(steps, commits(Reference(source.weights, source.shape), steps, source), plan)
    asked = len(range(0, plan.steps, plan.every))
    assert card == {
        "count": 4,
        "steps": plan.steps,
        "asked": 4 * asked,
        "same_commits": 1,
        "same_tokens": 1,
        "first_difference": [None] * 4,
    }
    for step in steps:
        assert step.number % plan.every == 0
        assert (step.ids == MASK).sum() == ANSWER - step.number * ANSWER // plan.steps
        assert (step.ids[step.positions] == MASK).all()
        assert step.positions.size == ANSWER // plan.steps


def test_a_generation_ends_with_the_last_step_that_is_asked_about(source: Source) -> None:
    class Counted(ReferenceForward):
        passes = 0

        def __call__(self, given: PassInput, /) -> Predictions:
            self.passes += 1
            return super().__call__(given)

    forward = Counted(source)
    followed(forward, source, QUICK)
    assert forward.passes == 4 * 5  # of 8 steps, the fifth is the last in question


def test_another_checkpoint_does_not(source: Source) -> None:
    steps = followed(ReferenceForward(source), source, QUICK)
    other = Reference(source.weights, dataclasses.replace(source.shape, window=4))
    card = trajectory_card(steps, commits(other, steps, source), QUICK)
    assert card["same_commits"] < 0.9
    assert card["same_commits"] <= card["same_tokens"] < 1
    assert any(step is not None for step in card["first_difference"])


def test_without_a_question_that_fits_there_are_no_figures(source: Source) -> None:
    short = dataclasses.replace(source, shape=dataclasses.replace(source.shape, positions=40))
    steps = followed(ReferenceForward(short), short, QUICK)
    card = trajectory_card(steps, commits(Reference(short.weights, short.shape), steps, short), QUICK)
    assert (card["count"], card["asked"], card["same_commits"], card["first_difference"]) == (0, 0, None, [])


def parts(logits: np.ndarray, ends: Sequence[int]) -> Iterator[Columns]:
    for ids in np.split(np.arange(logits.shape[1]), ends):
        yield Columns(ids, logits[:, ids].copy())


@pytest.mark.parametrize("ends", [[], [1], [2, 3], [3, 9]])
def test_best_tokens_of_parts_are_those_of_the_whole(ends: list[int]) -> None:
    logits = np.random.default_rng(0).standard_normal((5, 10)) * 4
    seen = [np.array([0, 7]), np.array([3])]
    penalised = logits.copy()
    for rows, ids in ((slice(0, 3), seen[0]), (slice(3, 5), seen[1])):
        block = penalised[rows, ids]
        penalised[rows, ids] = np.where(block > 0, block / 1.5, block * 1.5)
    best, doubts = best_tokens(parts(logits, ends), [3, 2], seen, 1.5)
    np.testing.assert_array_equal(best, penalised.argmax(axis=1))
    ordered = np.sort(penalised, axis=1)[:, ::-1]
    np.testing.assert_allclose(doubts, np.exp(ordered[:, 1:] - ordered[:, :1]).sum(axis=1))


@pytest.mark.parametrize("ends", [[], [2], [1, 3]])
def test_ties_take_the_lower_id_and_tiny_doubts_are_kept(ends: list[int]) -> None:
    logits = np.array(
        [[1.0, 9, 0, 9], [60, 60 + np.log(1e-9), -60, -60], [60, 60 + np.log(1e-8), -60, -60]], np.float32
    )
    best, doubts = best_tokens(parts(logits, ends), [3], [np.zeros(0, np.int64)], 1.2)
    assert best.tolist() == [1, 0, 0]
    np.testing.assert_allclose(doubts, [1 + np.exp(-8) + np.exp(-9), 1e-9, 1e-8], rtol=1e-4)


class Oracle:
    """Logits [n, vocab] of all rows, whatever is asked."""

    def __init__(self, logits: list[list[float]]) -> None:
        self._logits = np.array(logits)

    def logits(self, asked: Sequence[Asked], kept: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError

    def parts(self, asked: Sequence[Asked], kept: np.ndarray | None = None) -> Iterator[Columns]:
        assert sum(canvas.rows.size for canvas in asked) == len(self._logits)
        return parts(self._logits, [5])


def test_a_commit_by_hand(source: Source) -> None:
    """The surest positions first, the lower one among equals; tokens of the canvas are penalised, but not <eos>."""
    ids = np.array([EOS, 7, MASK, MASK, MASK])
    step = Followed(0, 0, ids, np.array([4, 2]), np.array([8, 9]))
    one = np.eye(10)
    logits = [list(5 * one[9]), list(6 * one[7]), list(5 * one[EOS])]
    [found] = commits(Oracle(logits), [step], source)  # 6 / 1.2 is 5, so all three are as sure
    assert found.positions.tolist() == [2, 3]
    assert found.tokens.tolist() == [9, 7]
    assert found.there.tolist() == [EOS, 9]


def test_a_card_by_hand() -> None:
    def step(question: int, number: int, positions: list[int], tokens: list[int]) -> Followed:
        return Followed(question, number, np.zeros(0, np.int64), np.array(positions), np.array(tokens))

    def commit(positions: list[int], tokens: list[int], there: list[int]) -> Commit:
        return Commit(np.array(positions), np.array(tokens), np.array(there))

    steps = [step(0, 0, [3, 5], [10, 11]), step(0, 4, [6, 7], [12, 13]), step(1, 0, [2, 4], [14, 15])]
    found = [
        commit([5, 3], [11, 10], [10, 11]),  # in another order
        commit([6, 8], [12, 13], [12, 13]),  # at another position
        commit([2, 4], [14, 16], [14, 16]),  # another token
    ]
    card = trajectory_card(steps, found, QUICK)
    assert card["same_commits"] == pytest.approx(4 / 6)
    assert card["same_tokens"] == pytest.approx(5 / 6)
    assert card["first_difference"] == [4, 0]
    assert (card["count"], card["steps"], card["asked"]) == (2, 8, 3)
