"""What came of a sweep: exact match and agreement of each setting, against steps and arithmetic."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from sweep.answers import Answer, Plan, Store
from sweep.arithmetic import Shape


class Figures(NamedTuple):
    """What is known of a setting in a group.

    Attributes:
        group: The questions and conditions.
        variant: Of the model.
        setting: Its name.
        family: Of the setting.
        match: Share of the answers that are right to the letter.
        same_text: Share of the answers that are the exact setting's.
        same_tokens: Share of the answers' tokens that are.
        steps: Of a mean answer.
        passes: What they cost, in passes of the exact setting, by nano's shape and by mmBERT-base's.
        times_less: How many times less arithmetic than the exact setting's, by these two.
        pareto: Whether no other setting is at least as good in match and text and arithmetic, and better in one.
    """

    group: str
    variant: str
    setting: str
    family: str
    match: float
    same_text: float
    same_tokens: float
    steps: float
    passes: tuple[float, float]
    times_less: tuple[float, float]
    pareto: bool = False


def agreement(tokens: Sequence[int], others: Sequence[int]) -> tuple[int, int]:
    """Return how many places of two answers hold the same token, and how many places the longer one has."""
    return sum(a == b for a, b in zip(tokens, others, strict=False)), max(len(tokens), len(others))


def share_of_tokens(answers: Sequence[Answer], others: Sequence[Answer]) -> float:
    """Return the share of places that hold the same token, over all answers."""
    pairs = [agreement(one.tokens, other.tokens) for one, other in zip(answers, others, strict=True)]
    same, places = map(sum, zip(*pairs, strict=True))
    return same / places if places else 1.0


def costs(made: Sequence[Answer], exact: Sequence[Answer], shape: Shape) -> tuple[float, float]:
    """Return what a mean answer costs in mean passes of the exact setting, and how many times less than exact."""
    spent, whole = (sum(shape.total(answer.passes) for answer in answers) for answers in (made, exact))
    exact_passes = sum(len(answer.passes) for answer in exact)
    return spent / whole * exact_passes / len(made), whole / spent


def figures(plan: Plan, reference: str, store: Store, shapes: Sequence[Shape]) -> Figures:
    """Return the figures of a plan; agreement is with the variant `reference`, arithmetic with its own exact setting.

    Args:
        plan: Whose answers are in the store.
        reference: A variant, which the exact setting's answers of this group are of.
        store: All answers.
        shapes: Nano's, and mmBERT-base's.
    """
    made, exact, own = (
        [store[job] for job in one.jobs()] for one in (plan, plan.exact(reference), plan.exact(plan.variant))
    )
    passes, times_less = zip(*(costs(made, own, shape) for shape in shapes), strict=True)
    return Figures(
        group=plan.group.name,
        variant=plan.variant,
        setting=plan.setting.name,
        family=plan.setting.family,
        match=fmean(one.text == exercise.answer for one, exercise in zip(made, plan.exercises, strict=True)),
        same_text=fmean(one.text == other.text for one, other in zip(made, exact, strict=True)),
        same_tokens=share_of_tokens(made, exact),
        steps=fmean(len(one.passes) for one in made),
        passes=passes,
        times_less=times_less,
    )


def pareto(points: Sequence[Sequence[float]]) -> list[bool]:
    """Return for each point whether no other is at least as large in every coordinate and larger in one."""

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        return tuple(one) != tuple(other) and all(a >= b for a, b in zip(one, other, strict=True))

    return [not any(beats(other, point) for other in points) for point in points]


def marked(rows: Sequence[Figures]) -> list[Figures]:
    """Return the rows with the Pareto set of each group and variant marked, by mmBERT-base's arithmetic."""
    found: list[Figures] = []
    for kind in dict.fromkeys((row.group, row.variant) for row in rows):
        own = [row for row in rows if (row.group, row.variant) == kind]
        best = pareto([(row.match, row.same_text, row.times_less[1]) for row in own])
        found += [row._replace(pareto=mark) for row, mark in zip(own, best, strict=True)]
    return found


def select(rows: Sequence[Figures], wanted: Callable[[Figures], bool]) -> list[Figures]:
    """Return the rows that are wanted, the dearest first."""
    return sorted(filter(wanted, rows), key=lambda row: row.times_less[1])
