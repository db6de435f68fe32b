"""From logits to candidates and sums, one part of the vocabulary after another.

A part is reduced while its logits are in the cache. What it leaves is small: the greatest logit of each group of
columns, the best column, and the sums over all others relative to the best. At the end

    the candidates are among the groups with the greatest maxima: 64 groups hold the 64 best, ties included, since of
        equal ones the lower group comes first, and its columns are lower, too;
    the sums are joined as Σ exp(m - M) (S + [m is not the best of all]), with m the part's best and M the best of all.

The best token is left out of the sums instead of being subtracted: at a confidence of 1 - 1e-9, nothing would remain of
the rest in float32. Seen ids have another logit, so they are taken out of the parts, and join at the end.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from diffutron_ort_export.graph.head import Part
from diffutron_ort_export.graph.products import Operand
from diffutron_ort_export.graph.values import BOOL, FLOAT, INT32, INT64, Op, choose, filled
from diffutron_ort_export.graph.vocabulary import GROUP, Columns, Ids

SUPPRESSED, REMOVED = -1e30, -4e30
"""Logits that never count, since exp of them is 0 at any temperature. Those of seen ids, which have been taken out of
their part, and those of columns that only fill a part up are below those of suppressed ids: so of an id that is listed
twice among the candidates, at least one is that of the id itself."""

UNTOUCHED = float(np.finfo(np.float32).max)
"""The minimum with it changes nothing."""


class Options(NamedTuple):
    """What the caller says about each predicted row.

    Attributes:
        seen: int64 [n, u], ids under repetition penalty, ascending, the last repeated.
        suppressed: int64 [n, s], ids never to choose.
        barred: bool [n, u], whether a seen id is suppressed.
        penalty: float32 [n, 1].
        temperature: float32 [n, 1].
        targets: int64 [n, t], ids whose raw logits are wanted.
        wants_entropy: bool [].
        wants_logits: bool [].
    """

    seen: ir.Value
    suppressed: ir.Value
    barred: ir.Value
    penalty: ir.Value
    temperature: ir.Value
    targets: ir.Value
    wants_entropy: ir.Value
    wants_logits: ir.Value


class Asked(NamedTuple):
    """The columns of the ids that are named: the seen, the suppressed, and the targets.

    Attributes:
        column: int64 [n, a], of each; an id without a column has one that changes nothing.
        has: bool [n, a], whether each has a column; None if all have.
        removed: float32 [n, u + s], at most what is left of the logits of the seen and the suppressed.
        u: int64 [1], the number of seen ids.
        us: int64 [1], the number of seen and suppressed ids.
    """

    column: ir.Value
    has: ir.Value | None
    removed: ir.Value
    u: ir.Value
    us: ir.Value


class Reduced(NamedTuple):
    """What a part leaves of its logits.

    Attributes:
        left: [n, width], the logits, except for those of seen and suppressed ids.
        found: [n, a], raw logits of the ids that are named, 0 where they are in another part.
        maxima: [n, groups], the greatest of each group.
        best: [n, 1], the greatest.
        column: int64 [n, 1], its column.
        rest: [n, 1], Σ exp(logit - best) over the others.
        tempered: [n, 1], Σ exp((logit - best) / temperature) over the others.
        below: [n, 1], Σ exp(logit - best) (logit - best).
    """

    left: ir.Value
    found: ir.Value
    maxima: ir.Value
    best: ir.Value
    column: ir.Value
    rest: ir.Value
    tempered: ir.Value
    below: ir.Value


class Predictions(NamedTuple):
    """The outputs of the graph but the keys and values, named as in its contract."""

    top_ids: ir.Value
    top_logits: ir.Value
    rest: ir.Value
    rest_tempered: ir.Value
    entropy: ir.Value
    target_logits: ir.Value
    logits: ir.Value


def reduce_logits(op: Op, x: Operand, parts: Sequence[Part], ids: Ids, options: Options) -> Predictions:
    """Return the predictions of rows, from what the parts of the head multiply.

    Args:
        op: The builder.
        x: [n, hidden].
        parts: The parts of the head, in order.
        ids: The ids of the logits' columns.
        options: What the caller says about each row.
    """
    columns = ids.columns
    asked = named(op, ids, options)
    inverse = op.Reciprocal(options.temperature)
    tempers = any_true(op, op.Not(op.Equal(options.temperature, 1.0)))
    reduced = [
        at_once(
            op,
            reduce_part(op, part(op, x), part.first, columns, asked, Sums(tempers, inverse, options.wants_entropy)),
            columns.groups,
        )
        for part in parts
    ]
    found = total(op, [part.found for part in reduced])
    seen = Candidates(op.Slice(asked.column, [0], asked.u, [1]), own_logits(op, found, asked, options))
    top = best_of(op, best_left(op, reduced, columns), seen, columns.top)
    rest, tempered, entropy = joined(op, reduced, top, seen, inverse)
    targets = op.Slice(found, asked.us, [ALL], [1])
    if asked.has is not None:
        targets = op.Where(op.Slice(asked.has, asked.us, [ALL], [1]), targets, float("-inf"))
    return Predictions(
        ids.ids_of(op, top.columns),
        top.logits,
        rest,
        tempered,
        entropy,
        targets,
        raw_logits(op, reduced, found, asked, columns, options.wants_logits),
    )


def named(op: Op, ids: Ids, options: Options) -> Asked:
    """Return the columns of the ids that the options name."""
    column, has = ids.columns_of(op, op.Concat(options.seen, options.suppressed, options.targets, axis=1))
    levels = [
        filled(op, value, op.Shape(given))
        for value, given in ((REMOVED, options.seen), (SUPPRESSED, options.suppressed))
    ]
    removed, u = op.Concat(*levels, axis=1), op.Shape(options.seen, start=1)
    us = op.Add(u, op.Shape(options.suppressed, start=1))
    if has is not None:
        removed = op.Where(op.Slice(has, [0], us, [1]), removed, UNTOUCHED)
    return Asked(column, has, removed, u, us)


class Sums(NamedTuple):
    """What decides which sums a part computes.

    Attributes:
        tempers: bool [], whether any temperature is not 1; if none is, the tempered sums are the others.
        inverse: float32 [n, 1], of the temperature.
        wants_entropy: bool [].
    """

    tempers: ir.Value
    inverse: ir.Value
    wants_entropy: ir.Value


def reduce_part(op: Op, logits: ir.Value, first: int, columns: Columns, asked: Asked, sums: Sums) -> Reduced:
    """Reduce the logits [n, width] of the part whose first column is `first`."""
    found, left = taken_out(op, logits, first, columns, asked)
    maxima = op.ReduceMax(grouped(op, left, columns), [2], keepdims=0)
    best, place = best_place(op, left, maxima, columns)
    local = op.Add(op.Mul(place.group, GROUP), place.at)
    rest, shares, own = others(op, left, place, columns)
    column = op.Add(local, first)

    def tempered(op: Op) -> ir.Value:
        return others(op, op.Mul(left, sums.inverse), place, columns).sum

    def below(op: Op) -> ir.Value:
        return op.Div(op.ReduceSum(op.Mul(shares, op.Sub(left, best)), [1]), own)

    def same(op: Op) -> ir.Value:
        return op.Identity(rest)

    return Reduced(
        left,
        found,
        maxima,
        best,
        column,
        rest,
        choose(op, sums.tempers, tempered, same, "tempered"),
        choose(op, sums.wants_entropy, below, same, "below"),
    )


def taken_out(op: Op, logits: ir.Value, first: int, columns: Columns, asked: Asked) -> tuple[ir.Value, ir.Value]:
    """Return the raw logits [n, a] of the ids that are named, 0 where they are in another part, and what is left.

    Left are the logits [n, width] of the part, except for those of the seen and the suppressed ids.
    """
    here = op.And(op.GreaterOrEqual(asked.column, first), op.Less(asked.column, first + columns.width))
    local = op.Where(here, op.Sub(asked.column, first), 0)
    found = op.Where(here, op.GatherElements(logits, local, axis=1), 0.0)
    level = op.Where(op.Slice(here, [0], asked.us, [1]), asked.removed, UNTOUCHED)
    return found, op.ScatterElements(logits, op.Slice(local, [0], asked.us, [1]), level, axis=1, reduction="min")


class Place(NamedTuple):
    """Where a part has its best logit, the lowest column of equals.

    Attributes:
        group: int64 [n, 1], its group of columns.
        at: int64 [n, 1], its place in the group.
    """

    group: ir.Value
    at: ir.Value


def best_place(op: Op, left: ir.Value, maxima: ir.Value, columns: Columns) -> tuple[ir.Value, Place]:
    """Return the best [n, 1] of logits [n, width], given the maxima of their groups, and its place."""
    best, group = op.TopK(maxima, [1], _outputs=2)  # the lowest of equals
    inside = row_of(op, grouped(op, left, columns), group)  # [n, GROUP]
    _, at = op.TopK(inside, [1], _outputs=2)  # the lowest of equals
    return best, Place(group, at)


class Others(NamedTuple):
    """The columns of a part but the best one, in relation to it.

    Attributes:
        sum: [n, 1], Σ exp(logit - best) over them.
        shares: [n, width], the softmax over all columns.
        own: [n, 1], the best one's share.
    """

    sum: ir.Value
    shares: ir.Value
    own: ir.Value


def others(op: Op, logits: ir.Value, best: Place, columns: Columns) -> Others:
    """Sum up all columns of logits [n, width] but the best one, without subtracting it."""
    shares = op.Softmax(logits)
    by_group = op.ReduceSum(grouped(op, shares, columns), [2], keepdims=0)
    distant = op.Where(op.Equal(range_of(op, columns.groups), best.group), 0.0, by_group)
    inner = row_of(op, grouped(op, shares, columns), best.group)
    near = op.Where(op.Equal(range_of(op, GROUP), best.at), 0.0, inner)
    own = op.GatherElements(inner, best.at, axis=1)
    return Others(op.Div(op.Add(op.ReduceSum(distant, [1]), op.ReduceSum(near, [1])), own), shares, own)


def at_once(op: Op, part: Reduced, groups: int) -> Reduced:
    """Return what a part leaves as pieces of one tensor, so that all of it is computed before the next part is.

    ONNX Runtime computes what a node needs, one input after the other. Without this it multiplies all parts, then takes
    the maxima of all parts, and so on: each part is long out of the cache, and the values of all are in memory.
    """
    column = op.Cast(part.column, to=FLOAT)  # exact below 2**24
    values = (part.maxima, part.best, column, part.rest, part.tempered, part.below, part.found)
    tensor = op.Concat(*values, axis=1)
    bounds = [0, *range(groups, groups + 6), ALL]
    maxima, best, column, *sums, found = (
        op.Slice(tensor, [start], [end], [1]) for start, end in itertools.pairwise(bounds)
    )
    return Reduced(part.left, found, maxima, best, op.Cast(column, to=INT64), *sums)


class Candidates(NamedTuple):
    """Columns, int64 [n, k], and their logits [n, k]."""

    columns: ir.Value
    logits: ir.Value


def own_logits(op: Op, found: ir.Value, asked: Asked, options: Options) -> ir.Value:
    """Return the penalised logits [n, u] of seen ids (CTRL, arXiv 1909.05858, section 4.1), each id's once."""
    raw = op.Slice(found, [0], asked.u, [1])
    changed = op.Where(op.Greater(raw, 0.0), op.Div(raw, options.penalty), op.Mul(raw, options.penalty))
    changed = op.Where(options.barred, SUPPRESSED, changed)
    none = filled(op, -1, op.Concat(op.Shape(options.seen, end=1), [1], axis=0))
    before = op.Slice(op.Concat(none, options.seen, axis=1), [0], asked.u, [1])
    counts = op.Not(op.Equal(options.seen, before))
    if asked.has is not None:
        counts = op.And(counts, op.Slice(asked.has, [0], asked.u, [1]))
    return op.Where(counts, changed, REMOVED)


def best_left(op: Op, reduced: Sequence[Reduced], columns: Columns) -> Candidates:
    """Return the columns of the groups with the greatest maxima, in order; the best of what is left are among them."""
    maxima = concatenated(op, [part.maxima for part in reduced])  # [n, parts * groups]
    count = min(columns.top, columns.parts * columns.groups)
    _, chosen = op.TopK(maxima, [count], sorted=0, _outputs=2)
    groups, _ = op.TopK(chosen, [count], largest=0, _outputs=2)  # ascending, [n, count]
    logits = None
    for number, part in enumerate(reduced):
        local = op.Clip(op.Sub(groups, number * columns.groups), 0, columns.groups - 1)
        mine = op.GatherND(grouped(op, part.left, columns), op.Unsqueeze(local, [2]), batch_dims=1)
        later = op.Unsqueeze(op.GreaterOrEqual(groups, number * columns.groups), [2])
        logits = mine if logits is None else op.Where(later, mine, logits)  # [n, count, GROUP]
    inside = op.Add(op.Mul(op.Unsqueeze(groups, [2]), GROUP), range_of(op, GROUP))
    return Candidates(*(op.Reshape(part, [0, -1]) for part in (inside, logits)))


def best_of(op: Op, left: Candidates, seen: Candidates, count: int) -> Candidates:
    """Return the best of both, best first, the lower column first among equals."""
    logits, at = op.TopK(left.logits, [count], _outputs=2)
    columns = op.Concat(op.GatherElements(left.columns, at, axis=1), seen.columns, axis=1)
    ordered, order = op.TopK(columns, op.Shape(columns, start=1), largest=0, _outputs=2)
    logits = op.GatherElements(op.Concat(logits, seen.logits, axis=1), order, axis=1)
    top, at = op.TopK(logits, [count], _outputs=2)
    return Candidates(op.GatherElements(ordered, at, axis=1), top)


def joined(
    op: Op, reduced: Sequence[Reduced], top: Candidates, seen: Candidates, inverse: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the sums over all columns but the best one, and the entropy, each [n]."""
    best, column = (op.Slice(part, [0], [1], [1]) for part in (top.logits, top.columns))
    bests, firsts, rests, tempereds, belows = (
        concatenated(op, [getattr(part, name) for part in reduced])
        for name in ("best", "column", "rest", "tempered", "below")
    )  # [n, parts]
    counts = op.Where(op.Equal(firsts, column), 0.0, 1.0)
    down = op.Sub(bests, best)
    seen_down = op.Sub(op.Where(op.Equal(seen.columns, column), REMOVED, seen.logits), best)
    weight, seen_weight = op.Exp(down), op.Exp(seen_down)

    def summed(parts: ir.Value, others: ir.Value) -> ir.Value:
        # From left to right: the order of a ReduceSum depends on the number of rows, and of zeros on the right.
        return op.Gather(op.CumSum(op.Concat(parts, others, axis=1), 1), -1, axis=1)

    rest = summed(op.Mul(weight, op.Add(rests, counts)), seen_weight)
    tempered = summed(
        op.Mul(op.Exp(op.Mul(down, inverse)), op.Add(tempereds, counts)), op.Exp(op.Mul(seen_down, inverse))
    )
    lower = op.Add(belows, op.Mul(down, op.Add(rests, counts)))  # Σ exp(logit - m) (logit - M), m the part's best
    below = summed(op.Mul(weight, lower), op.Mul(seen_weight, seen_down))
    return rest, tempered, op.Sub(log1p(op, rest), op.Div(below, op.Add(rest, 1.0)))


def raw_logits(
    op: Op, reduced: Sequence[Reduced], found: ir.Value, asked: Asked, columns: Columns, wanted: ir.Value
) -> ir.Value:
    """Return the raw logits [n, columns] if they are wanted, else [0, columns]."""

    def whole(op: Op) -> ir.Value:
        left = concatenated(op, [part.left for part in reduced])
        where, raw = (op.Slice(value, [0], asked.us, [1]) for value in (asked.column, found))
        logits = op.ScatterElements(left, where, raw, axis=1)
        return logits if columns.padded == columns.count else op.Slice(logits, [0], [columns.count], [1])

    def none(op: Op) -> ir.Value:
        return op.ConstantOfShape(op.builder.initializer(ir.tensor(np.array([0, columns.count])), "no_logits"))

    return choose(op, wanted, whole, none, "logits")


ALL = 2**62
"""An end beyond every axis."""


def grouped(op: Op, x: ir.Value, columns: Columns) -> ir.Value:
    """[n, width] -> [n, groups, GROUP]."""
    return op.Reshape(x, [0, columns.groups, GROUP])


def row_of(op: Op, x: ir.Value, at: ir.Value) -> ir.Value:
    """Return x[i, at[i]] for each i: [n, m, k], int64 [n, 1] -> [n, k]."""
    return op.Squeeze(op.GatherND(x, op.Unsqueeze(at, [2]), batch_dims=1), [1])


def range_of(op: Op, count: int) -> ir.Value:
    """Return the numbers below `count`, int64 [count]."""
    return op.Range(0, count, 1)


def any_true(op: Op, flags: ir.Value) -> ir.Value:
    """Return whether any of the flags holds, bool []."""
    return op.Cast(op.ReduceMax(op.Cast(flags, to=INT32), keepdims=0), to=BOOL)


def concatenated(op: Op, values: Sequence[ir.Value]) -> ir.Value:
    """Return values [n, m] side by side."""
    return op.Concat(*values, axis=1) if len(values) > 1 else values[0]


def total(op: Op, values: Sequence[ir.Value]) -> ir.Value:
    """Return the sum of values."""
    return op.Sum(*values) if len(values) > 1 else values[0]


def log1p(op: Op, x: ir.Value) -> ir.Value:
    """Return log(1 + x) for x >= 0, exact for small x (Kahan's form; ONNX has no such operator)."""
    above = op.Add(x, 1.0)
    return op.Where(op.Equal(above, 1.0), x, op.Div(op.Mul(op.Log(above), x), op.Sub(above, 1.0)))
