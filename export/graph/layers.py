"""The layers of the encoder: what transformers' ModernBERT computes, in terms of positions instead of indices.

Rotated keys may come in any order and every mask is a function of positions, so one graph serves full passes, and
passes over some tokens against the cached keys and values of the others. Tokens stand in one line, [batch * seq, m];
only rotation and attention see sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import nn

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.graph.precision import Precisions
from diffutron_ort_export.graph.products import Norm, Product, Rounding, Scaled, operand
from diffutron_ort_export.graph.values import Op, choose, sized


class Rotation(NamedTuple):
    """Cosines and sines of the angles of some tokens, each [tokens, head_size / 2] (RoFormer, arXiv 2104.09864)."""

    cos: ir.Value
    sin: ir.Value

    def rows(self, op: Op, rows: ir.Value) -> "Rotation":
        """Return the rotation of some of the tokens."""
        return Rotation(op.Gather(self.cos, rows), op.Gather(self.sin, rows))

    def turn(self, op: Op, x: Scaled, tokens: "Tokens", heads: int) -> ir.Value:
        """[tokens, hidden] -> [batch, seq, hidden]. Turning is linear, so it takes x's scale along for nothing."""
        parts = self if x.scale is None else (op.Mul(self.cos, x.scale), op.Mul(self.sin, x.scale))
        angles = (op.Reshape(part, tokens.sizes.angles) for part in parts)
        return op.RotaryEmbedding(tokens.as_sequences(op, x.value), *angles, num_heads=heads)


class Sizes(NamedTuple):
    """Shapes of tokens as sequences, each int64 [3].

    Attributes:
        tokens: batch, seq, hidden.
        angles: batch, seq, head_size / 2.
    """

    tokens: ir.Value
    angles: ir.Value


class Past(NamedTuple):
    """The cached keys and values of one layer, each float32 [batch, past, hidden], and whether there are any."""

    key: ir.Value
    value: ir.Value
    has: ir.Value


class KeyValue(NamedTuple):
    """The rotated keys and the values of the computed tokens, each float32 [batch, seq, hidden]."""

    key: ir.Value
    value: ir.Value


@dataclass(frozen=True)
class Tokens:
    """What all layers share of the tokens that a layer computes.

    Attributes:
        axes: The names or sizes of the axes of the tokens as sequences: batch, seq, hidden.
        count: The name of their axis in one line.
        sizes: Their shapes as sequences.
        rotations: Those of local and of global layers.
        masks: Those of local and of global layers, [batch, 1, seq, total], added to the scores.
        rounding: What 8-bit products need.
    """

    axes: tuple[int | str, ...]
    count: str
    sizes: Sizes
    rotations: Sequence[Rotation]
    masks: Sequence[ir.Value]
    rounding: Rounding

    def as_sequences(self, op: Op, x: ir.Value) -> ir.Value:
        """[tokens, hidden] -> [batch, seq, hidden]."""
        return sized(op.Reshape(x, self.sizes.tokens), *self.axes)


@dataclass(frozen=True)
class Rows:
    """The tokens that leave the last layer, which computes nothing but keys and values for the others.

    In attention they are queries. Each sequence has as many as the one with the most rows, so that a query sees the
    keys of its own sequence alone, in the order that they have without company.

    Attributes:
        rows: int64 [n], their places in the line of tokens.
        queried: int64 [batch * queries], the places of the tokens that are queries; some only fill a sequence up.
        places: int64 [n], the place of each row among the queries.
        queries: What is shared of the queries.
        rounding: What 8-bit products of the rows need.
        count: The name of the rows' axis.
    """

    rows: ir.Value
    queried: ir.Value
    places: ir.Value
    queries: Tokens
    rounding: Rounding
    count: str


class Attention(nn.Module):
    """Attention over the computed tokens and the past."""

    def __init__(self, shape: Shape, name: str, precisions: Precisions) -> None:
        super().__init__()
        self.heads, self.hidden = shape.heads, shape.hidden_size
        to_qkv, to_out = f"{name}.Wqkv", f"{name}.Wo"
        self.precision, self.out_precision = precisions[to_qkv], precisions[to_out]
        self.Wq, self.Wk, self.Wv = (
            Product(to_qkv, self.hidden, self.hidden, i * self.hidden, precision=self.precision) for i in range(3)
        )
        self.Wo = Product(to_out, self.hidden, self.hidden, precision=self.out_precision)

    def forward(
        self, op: Op, x: ir.Value, layer: bool, tokens: Tokens, past: Past, rows: Rows | None
    ) -> tuple[Scaled, KeyValue]:
        """Attend.

        Args:
            op: The builder.
            x: [tokens, hidden].
            layer: Whether the layer is global.
            tokens: What is shared of the tokens.
            past: The cached tokens.
            rows: The tokens whose result is wanted; None is all.

        Returns:
            [tokens, hidden], or [n, hidden] of the rows; and the keys and values of all tokens.
        """
        given = operand(op, x, self.precision, tokens.rounding)
        key = tokens.rotations[layer].turn(op, self.Wk(op, given), tokens, self.heads)
        value = tokens.as_sequences(op, self.Wv(op, given).applied(op))
        wanted = tokens if rows is None else rows.queries
        query = self.Wq(op, given if rows is None else given.rows(op, rows.queried))
        query = wanted.rotations[layer].turn(op, query, wanted, self.heads)
        mixed = self.mix(op, query, KeyValue(key, value), past, wanted.masks[layer])
        mixed = sized(op.Reshape(mixed, [-1, self.hidden]), wanted.count, self.hidden)
        if rows is not None:
            mixed = sized(op.Gather(mixed, rows.places), rows.count, self.hidden)
        rounding = (rows or tokens).rounding
        return self.Wo(op, operand(op, mixed, self.out_precision, rounding)), KeyValue(key, value)

    def mix(self, op: Op, query: ir.Value, own: KeyValue, past: Past, mask: ir.Value) -> ir.Value:
        """Return the values that queries [batch, seq, hidden] attend to. Without a past, nothing is copied."""

        def attend(op: Op, keys: ir.Value, values: ir.Value) -> ir.Value:
            return op.Attention(query, keys, values, mask, q_num_heads=self.heads, kv_num_heads=self.heads)

        def cached(op: Op) -> ir.Value:
            pairs = ((own.key, past.key), (own.value, past.value))
            return attend(op, *(op.Concat(*pair, axis=1) for pair in pairs))

        return choose(op, past.has, cached, lambda op: attend(op, *own), "past")


class GatedUnit(nn.Module):
    """GeGLU (Shazeer, arXiv 2002.05202) with the exact, error-function gelu."""

    def __init__(self, shape: Shape, name: str, precisions: Precisions) -> None:
        super().__init__()
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.precision, self.out_precision = precisions[f"{name}.Wi"], precisions[f"{name}.Wo"]
        self.to_value = Product(f"{name}.Wi", hidden, inner, precision=self.precision)
        self.to_gate = Product(f"{name}.Wi", hidden, inner, inner, precision=self.precision)
        self.Wo = Product(f"{name}.Wo", inner, hidden, precision=self.out_precision)

    def forward(self, op: Op, x: ir.Value, rounding: Rounding) -> Scaled:
        """[tokens, hidden] -> [tokens, hidden]."""
        given = operand(op, x, self.precision, rounding)
        value, gate = self.to_value(op, given).applied(op), self.to_gate(op, given)
        gated = Scaled(op.Mul(op.Gelu(value), gate.value), gate.scale)
        return self.Wo(op, operand(op, gated, self.out_precision, rounding))


class Layer(nn.Module):
    """Attention and gated unit, each behind its norm and added to the stream."""

    def __init__(self, shape: Shape, index: int, precisions: Precisions) -> None:
        super().__init__()
        name = f"model.layers.{index}"
        self.is_global = shape.is_global[index]
        self.attn_norm = (  # the embedding has just been normalized
            Norm(f"{name}.attn_norm", shape.hidden_size, shape.norm_eps) if index else None
        )
        self.attn = Attention(shape, f"{name}.attn", precisions)
        self.mlp_norm = Norm(f"{name}.mlp_norm", shape.hidden_size, shape.norm_eps)
        self.mlp = GatedUnit(shape, f"{name}.mlp", precisions)

    def forward(
        self, op: Op, x: ir.Value, tokens: Tokens, past: Past, rows: Rows | None = None
    ) -> tuple[ir.Value, KeyValue]:
        """[tokens, hidden] -> the same, or [n, hidden] of the rows; and the keys and values of all tokens."""
        normed = self.attn_norm(op, x) if self.attn_norm else x
        mixed, own = self.attn(op, normed, self.is_global, tokens, past, rows)
        x = op.Add(mixed.applied(op), x if rows is None else op.Gather(x, rows.rows))
        rounding = (rows or tokens).rounding
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x), rounding).applied(op)), own
