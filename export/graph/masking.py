"""Which keys a query sees, as numbers that are added to the scores."""

from collections.abc import Sequence

import onnx_ir as ir

from diffutron_ort_export.graph.values import Op

FAINT = -60.0
"""Added to a masked score. exp of it is 1e-26, which leaves nothing of a masked key in a float32 sum, and a normal
number: what MLAS makes of much lower scores is not one, and costs a tenth of a full pass on Intel."""

CERTAIN = -1e4
"""Added instead where masked scores can be far above all visible ones. Finite: with −inf, a row that sees nothing is
NaN in several releases of ONNX Runtime."""

SAFE_EXCESS = 20.0
"""The most by which masked raw scores may exceed visible ones in the check for `FAINT` to be used. It could be twice as
much: exp(40 - 60) is 2e-9, below half of float32's last bit of 1."""


def masked_score(excess: float) -> float:
    """Return what to add to masked scores, given the most by which a masked raw score exceeded all visible ones."""
    return FAINT if excess <= SAFE_EXCESS else CERTAIN


def masks(op: Op, queries: ir.Value, keys: ir.Value, window: int, masked: float) -> Sequence[ir.Value]:
    """Return the additive masks of local and of global layers, each [batch, 1, seq, total].

    Args:
        op: The builder.
        queries: The positions of the computed tokens, int64 [batch, seq].
        keys: The positions of the computed tokens and of the past, int64 [batch, total]; -1 is none.
        window: The window of a local layer, which sees the keys with |i - j| <= window / 2.
        masked: Added to a masked score.
    """
    across, down = op.Unsqueeze(keys, [1, 2]), op.Unsqueeze(queries, [1, 3])
    valid, distance = op.GreaterOrEqual(across, 0), op.Abs(op.Sub(down, across))
    near = op.And(op.LessOrEqual(distance, window // 2), valid)
    everywhere = op.And(op.GreaterOrEqual(distance, 0), valid)  # of each query; no Expand, which WebGPU fails at
    return [op.Where(seen, 0.0, masked) for seen in (near, everywhere)]


def rows_of_mask(op: Op, mask: ir.Value, queried: ir.Value, batch: ir.Value) -> ir.Value:
    """Return the mask of some tokens: [batch, 1, seq, total], int64 [batch * queries] -> [batch, 1, queries, total]."""
    total = op.Shape(mask, start=3)
    rows = op.Gather(op.Reshape(mask, op.Concat([-1], total, axis=0)), queried)
    return op.Reshape(rows, op.Concat(batch, [1, -1], total, axis=0))


def sequences(op: Op, rows: ir.Value, positions: ir.Value) -> ir.Value:
    """Return the sequence of each row, int64 [n]."""
    return op.Div(rows, op.Shape(positions, start=1))
