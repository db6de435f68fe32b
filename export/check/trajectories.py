"""Follows a model's own greedy generations, and asks a reference what it would have committed at their canvases.

That costs the reference one call for all canvases, where generating by itself would take a call for each step. As long
as the two commit the same, the reference's own generation is the same; after the first difference, it is asked about
canvases that it would not have come to.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.canvas import Canvas, for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.types import Floats, Ids, SpecialIds
from diffutron_ort_export.check.canvases import prompts
from diffutron_ort_export.check.reference import Asked, Columns, Oracle
from diffutron_ort_export.checkpoint.source import Source

ANSWER = 32
"""The number of tokens in an answer."""


class Plan(NamedTuple):
    """How generations are followed: the number of their steps, and the number of steps for each that is asked about."""

    steps: int
    every: int


QUICK, THOROUGH = Plan(8, 4), Plan(ANSWER, 1)


class Followed(NamedTuple):
    """A step of a generation: the canvas before it, and what the step committed."""

    question: int
    number: int
    ids: Ids  # [seq]
    positions: Ids  # [m]
    tokens: Ids  # [m]


class Commit(NamedTuple):
    """What a model commits to a canvas, and its best tokens at the positions that the generation committed."""

    positions: Ids  # [m]
    tokens: Ids  # [m]
    there: Ids  # [m]


def followed(forward: Forward, source: Source, plan: Plan) -> list[Followed]:
    """Return the steps to be asked about of the greedy answers to all questions, with the package's penalty."""
    config, special = options(plan.steps), SpecialIds(**source.tokenizer.special_ids)
    found, last = [], (plan.steps - 1) // plan.every * plan.every  # the last step that is asked about
    for question, prompt in enumerate(prompts(source, ANSWER)):
        canvas: Canvas = for_generation(prompt.tolist(), ANSWER, special.mask)
        before = canvas.ids
        for _, step in denoise(forward, [canvas], config, special):
            if step.index % plan.every == 0:
                found.append(Followed(question, step.index, before, step.positions, step.ids[step.positions]))
            if step.index == last:
                break
            before = step.ids
    return found


def options(steps: int) -> GenerationConfig:
    """Return the options of a generation."""
    return GenerationConfig(steps=steps, max_new_tokens=ANSWER, block_length=ANSWER, temperature=0)


def commits(oracle: Oracle, steps: Sequence[Followed], source: Source) -> list[Commit]:
    """Return what the reference would commit instead of each step; none if there are no steps."""
    if not steps:
        return []
    special, penalty = source.tokenizer.special_ids, options(ANSWER).repetition_penalty
    asked = [Asked(step.ids, np.flatnonzero(step.ids == special["mask"])) for step in steps]
    seen = [np.setdiff1d(step.ids, [special["mask"], special["eos"]]) for step in steps]
    counts = [canvas.rows.size for canvas in asked]
    best, doubts = best_tokens(oracle.parts(asked, source.kept), counts, seen, penalty)
    found, ends = [], np.cumsum(counts)[:-1]
    for step, canvas, tokens, doubt in zip(steps, asked, np.split(best, ends), np.split(doubts, ends), strict=True):
        first = np.argsort(doubt, kind="stable")[: step.positions.size]  # the lower position among equals
        there = tokens[np.searchsorted(canvas.rows, step.positions)]
        found.append(Commit(canvas.rows[first], tokens[first], there))
    return found


def best_tokens(
    parts: Iterable[Columns], counts: Sequence[int], seen: Sequence[Ids], penalty: float
) -> tuple[Ids, Floats]:
    """Return the best token of each row and the odds against it, each [n].

    Args:
        parts: The logits, in parts of the vocabulary.
        counts: The number of rows of each canvas.
        seen: The ids under the repetition penalty of each canvas.
        penalty: The repetition penalty.
    """
    spans = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    ids, best, rest = [], [], []  # of each part
    for part in parts:
        logits = part.logits
        for rows, penalised in zip(spans, seen, strict=True):
            penalise(logits, rows, np.flatnonzero(np.isin(part.ids, penalised)), penalty)
        first = logits.argmax(axis=1)
        ids.append(part.ids[first])
        best.append(np.take_along_axis(logits, first[:, None], axis=1)[:, 0])
        logits -= best[-1][:, None]
        np.put_along_axis(logits, first[:, None], -np.inf, axis=1)
        rest.append(np.exp(logits, out=logits).sum(axis=1, dtype=np.float64))
    return joined(np.stack(ids), np.stack(best), np.stack(rest))


def penalise(logits: Floats, rows: Ids, columns: Ids, penalty: float) -> None:
    """Apply the repetition penalty to some rows and columns of logits, in place."""
    place = np.ix_(rows, columns)
    logits[place] = np.where(logits[place] > 0, logits[place] / penalty, logits[place] * penalty)


def joined(ids: Ids, best: Floats, rest: Floats) -> tuple[Ids, Floats]:
    """Return the best token of all parts and the odds against it, each [n].

    Args:
        ids: The best token of each part, [parts, n].
        best: Its logit, [parts, n].
        rest: The sum of exp(logit - best) over the part's other tokens, [parts, n].
    """
    winner = best.argmax(axis=0)[None]  # the first part among equals
    lost = np.arange(len(best))[:, None] != winner
    scale = np.exp((best - np.take_along_axis(best, winner, axis=0)).astype(np.float64))
    return np.take_along_axis(ids, winner, axis=0)[0], (scale * (rest + lost)).sum(axis=0)


def trajectory_card(steps: Sequence[Followed], found: Sequence[Commit], plan: Plan) -> dict[str, Any]:
    """Return the figures of followed generations.

    Args:
        steps: The steps of a model's generations that were asked about.
        found: What float32 would have committed instead of each.
        plan: How the generations were followed.

    Returns:
        count: The number of generations, of `steps` steps each.
        asked: The number of their steps that float32 was asked about.
        same_commits: The share of the tokens committed in those that float32 commits as well, at the same position.
        same_tokens: The share of those tokens that float32 holds for the best at their position.
        first_difference: For each generation, the first step that was asked about, from 0, at which float32 commits
            something else; None if there is none.
    """
    both = list(zip(steps, found, strict=True))
    committed = [token for step, commit in both for token in same_commits(step, commit)]
    best = [token for step, commit in both for token in (step.tokens == commit.there).tolist()]
    differ = [(step.question, step.number) for step, commit in both if not all(same_commits(step, commit))]
    questions = sorted({step.question for step in steps})
    return {
        "count": len(questions),
        "steps": plan.steps,
        "asked": len(steps),
        "same_commits": share(committed),
        "same_tokens": share(best),
        "first_difference": [next((i for q, i in differ if q == question), None) for question in questions],
    }


def same_commits(step: Followed, commit: Commit) -> list[bool]:
    """Return whether each token that a step committed is committed by float32 as well."""
    theirs = dict(zip(commit.positions.tolist(), commit.tokens.tolist(), strict=True))
    return [
        theirs.get(place) == token for place, token in zip(step.positions.tolist(), step.tokens.tolist(), strict=True)
    ]


def share(same: Sequence[bool]) -> float | None:
    """Return the share of what is true; None of nothing."""
    return float(np.mean(same)) if same else None
