"""The denoiser as an `nn.Module` with the signature of the graph.

It computes what transformers' ModernBERT does (`models/modernbert/modeling_modernbert.py`), but in terms of positions
instead of indices: rotated keys may come in any order and every mask is a function of positions, so one network serves
full passes and passes over some tokens against the cached keys and values of the others.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS

TOP = 64
"""The number of candidates that the graph returns for each row."""

NOTHING = -1e30
"""The value of a logit that must not count: exp of it is 0 at any temperature, and 0 times it is 0."""

MASK = SPECIAL_IDS["mask"]
"""An id that every output vocabulary contains and the repetition penalty never changes."""

HEAD_TABLE = "head_table"
KEPT, PLACE = "model.embeddings.pieces.kept", "model.embeddings.pieces.place"

MASKED = -1e4
"""Added to a masked score. Finite: with −inf a row that sees nothing is NaN in several releases of ONNX Runtime."""


class Projection(nn.Module):
    """A product with a matrix stored as [in, out], so that MatMul reads it from the file without a transpose."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return x @ self.weight


class Projections(nn.ModuleList):
    """Products with the parts of what a checkpoint stores as one matrix; separate parts need no copy to split."""

    def __init__(self, inputs: int, outputs: int, parts: int) -> None:
        super().__init__(Projection(inputs, outputs // parts) for _ in range(parts))


class Rotation(NamedTuple):
    """Cosines and sines of the angles of some positions, each [batch, seq, head_size / 2]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor, heads: int) -> Tensor:
        """Rotate x [batch, seq, hidden] by the positions of its tokens."""
        return torch.onnx.ops.rotary_embedding(x, self.cos, self.sin, num_heads=heads)


class Rotary(nn.Module):
    """The frequencies of the rotary embedding (RoFormer, arXiv 2104.09864, equation 34)."""

    def __init__(self, theta: float, head_size: int) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, head_size, 2, dtype=torch.float) / head_size))
        self.frequencies = nn.Buffer(frequencies, persistent=False)

    def forward(self, positions: Tensor) -> Rotation:
        """Return the rotation for positions, int64 [batch, seq]."""
        angles = positions[:, :, None] * self.frequencies  # [batch, seq, head_size / 2]
        return Rotation(angles.cos(), angles.sin())


class KeyValue(NamedTuple):
    """The rotated keys and the values of tokens, each [batch, tokens, hidden]."""

    key: Tensor
    value: Tensor


class Attention(nn.Module):
    """Attention over the computed tokens and the past."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.Wqkv = Projections(shape.hidden_size, 3 * shape.hidden_size, 3)
        self.Wo = Projection(shape.hidden_size, shape.hidden_size)

    def forward(
        self, x: Tensor, rotation: Rotation, past: KeyValue, mask: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """[batch, seq, hidden] -> the same or, given rows, [1, n, hidden]; and the keys and values of these tokens.

        The mask has a matching shape: [batch, 1, seq, total] or, given rows, [1, 1, n, batch * total].
        """
        to_query, to_key, to_value = self.Wqkv
        own = KeyValue(rotation(to_key(x), self.heads), to_value(x))
        keys, values = (torch.cat(pair, dim=1) for pair in zip(past, own, strict=True))
        if rows is not None:
            x, rotation = gather_rows(x, rows), Rotation(*(gather_rows(part, rows) for part in rotation))
            keys, values = (part.flatten(0, 1)[None] for part in (keys, values))
        query = rotation(to_query(x), self.heads)
        mixed, *_ = torch.onnx.ops.attention(query, keys, values, mask, q_num_heads=self.heads, kv_num_heads=self.heads)
        return self.Wo(mixed), own


class GatedUnit(nn.Module):
    """GeGLU (Shazeer, arXiv 2002.05202) with the exact, error-function gelu."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.Wi = Projections(shape.hidden_size, 2 * shape.intermediate_size, 2)
        self.Wo = Projection(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        to_value, to_gate = self.Wi
        mixed: Tensor = self.Wo(F.gelu(to_value(x)) * to_gate(x))
        return mixed


class Layer(nn.Module):
    """Attention and gated unit, each behind its norm and added to the stream."""

    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.attn_norm = norm(shape) if index else nn.Identity()  # the embedding has just been normalized
        self.attn = Attention(shape)
        self.mlp_norm = norm(shape)
        self.mlp = GatedUnit(shape)

    def forward(
        self, x: Tensor, rotation: Rotation, past: KeyValue, mask: Tensor, rows: Tensor | None = None
    ) -> tuple[Tensor, KeyValue]:
        """[batch, seq, hidden] -> the same or, given rows, [1, n, hidden]; and the keys and values of these tokens."""
        mixed, own = self.attn(self.attn_norm(x), rotation, past, mask, rows)
        x = mixed + (x if rows is None else gather_rows(x, rows))
        return x + self.mlp(self.mlp_norm(x)), own


def norm(shape: Shape) -> nn.LayerNorm:
    """Return a layer norm without bias over the hidden size."""
    return nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps, bias=False)


class OutputVocabulary(nn.Module):
    """An output vocabulary: the ids that the head predicts. Their rows come first in the table, then all others."""

    def __init__(self, shape: Shape, kept: Sequence[int]) -> None:
        super().__init__()
        self.kept = nn.Buffer(torch.tensor(kept), persistent=False)  # [m], ascending
        others = torch.ones(shape.vocab_size, dtype=torch.bool)
        others[self.kept] = False
        self.order = torch.cat([self.kept, others.nonzero()[:, 0]])  # [vocab], the id of each of the table's rows
        self.place = nn.Buffer(self.order.argsort().to(torch.int32), persistent=False)  # [vocab], the row of each id

    def rows(self, ids: Tensor) -> Tensor:
        """Return the table's rows for ids, int32 of the same shape."""
        return self._at(self.place, ids)

    def ids(self, columns: Tensor) -> Tensor:
        """Return the ids of columns of the logits."""
        return self._at(self.kept, columns)

    @staticmethod
    def _at(values: Tensor, where: Tensor) -> Tensor:
        """Return values[where], by Gather: indexing would be GatherND, which CUDA has for fewer types."""
        return values.index_select(0, where.flatten()).view(where.shape)

    def columns(self, ids: Tensor, none: int) -> tuple[Tensor, Tensor]:
        """Return the columns of ids in the logits, and whether each has one; ids without one get that of `none`."""
        rows = self.rows(ids)
        has = rows < len(self.kept)
        return torch.where(has, rows, self.place[none]).long(), has


class Embeddings(nn.Module):
    """Token table and norm; positions enter only through rotation."""

    def __init__(self, shape: Shape, pieces: OutputVocabulary | None) -> None:
        super().__init__()
        self.pieces = pieces
        self.tok_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.norm = norm(shape)

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, seq] -> [batch, seq, hidden]."""
        embedded: Tensor = self.norm(self.tok_embeddings(ids if self.pieces is None else self.pieces.rows(ids)))
        return embedded


class Encoder(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, shape: Shape, pieces: OutputVocabulary | None) -> None:
        super().__init__()
        self.window = shape.window
        self.is_global = shape.is_global
        self.rotaries = nn.ModuleList(Rotary(t, shape.head_size) for t in (shape.local_theta, shape.global_theta))
        self.embeddings = Embeddings(shape, pieces)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape.layers))
        self.final_norm = norm(shape)

    def forward(
        self, ids: Tensor, positions: Tensor, past_positions: Tensor, past: KeyValue, rows: Tensor
    ) -> tuple[Tensor, KeyValue]:
        """Return hidden states of the rows [n, hidden], and all keys and values, each [layers, batch, seq, hidden].

        Only the rows leave the last layer, so that layer computes nothing but keys and values for other tokens.
        """
        x = self.embeddings(ids)
        rotations = [rotary(positions) for rotary in self.rotaries]
        seen = masks(positions, torch.cat([past_positions, positions], dim=1), self.window)
        computed = []
        for i, layer in enumerate(self.layers):
            mask, rotation = (both[self.is_global[i]] for both in (seen, rotations))  # for local or global layers
            cached = KeyValue(past.key[i], past.value[i])
            if i < len(self.layers) - 1:
                x, own = layer(x, rotation, cached, mask)
            else:
                x, own = layer(x, rotation, cached, flat_mask(mask, rows), rows)
            computed.append(own)
        return self.final_norm(x[0]), KeyValue(*(torch.stack(part) for part in zip(*computed, strict=True)))


def gather_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Gather rows, flat indices into batch x seq, as one sequence: [batch, seq, hidden] -> [1, n, hidden]."""
    return x.flatten(0, 1).index_select(0, rows)[None]


def at_least_one_row(x: Tensor) -> Tensor:
    """Return x [n, ...], or a row of zeros if n is 0: Attention needs a query, and TopK of 1.23 divides by n."""
    n = x.shape[0]
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])]).index_select(0, torch.arange(n + 1 // (n + 1)))


def sequences(batch: int, seq: int, rows: Tensor) -> Tensor:
    """Return the sequence of each row, int64 [n]."""
    return torch.arange(batch)[:, None].expand(batch, seq).flatten().index_select(0, rows)


def flat_mask(mask: Tensor, rows: Tensor) -> Tensor:
    """Return the mask for rows over the keys of all sequences: [batch, 1, seq, total] -> [1, 1, n, batch * total].

    A row sees only the keys of its own sequence.
    """
    batch, _, seq, _ = mask.shape
    wanted = mask.flatten(0, 2).index_select(0, rows)[:, None]  # [n, 1, total]
    same = torch.arange(batch) == sequences(batch, seq, rows)[:, None]  # [n, batch]
    return torch.where(same[:, :, None], wanted, MASKED).flatten(1)[None, None]


def masks(queries: Tensor, keys: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the additive masks of local and of global layers, each [batch, 1, seq, total].

    Args:
        queries: The positions of the computed tokens, int64 [batch, seq].
        keys: The positions of the past and of the computed tokens, int64 [batch, total]; -1 is none.
        window: The window of a local layer, which sees the keys with |i - j| <= window / 2.
    """
    valid = (keys >= 0)[:, None, None, :].expand(-1, -1, queries.shape[1], -1)
    distance = (queries[:, None, :, None] - keys[:, None, None, :]).abs()
    near = valid & (distance <= window // 2)
    return additive(near), additive(valid)


def additive(allowed: Tensor) -> Tensor:
    """Return 0 where a score is allowed, else `MASKED`."""
    return torch.where(allowed, 0.0, MASKED)


class Head(nn.Module):
    """The transform before the table: dense, gelu, norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dense = Projection(shape.hidden_size, shape.hidden_size)
        self.norm = norm(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[n, hidden] -> [n, hidden]."""
        transformed: Tensor = self.norm(F.gelu(self.dense(x)))
        return transformed


class Decoder(nn.Module):
    """The product with the embedding table, or with its first rows."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(columns))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """[n, hidden], [columns, hidden] -> [n, columns]."""
        return F.linear(x, table, self.bias)


class Prediction(NamedTuple):
    """The outputs of the graph, in order; the documentation of the graph's contract describes them."""

    top_ids: Tensor
    top_logits: Tensor
    rest: Tensor
    rest_tempered: Tensor
    entropy: Tensor
    logits: Tensor
    key: Tensor
    value: Tensor


class Denoiser(nn.Module):
    """The network that becomes the graph; its parameters are named as in a checkpoint.

    Args:
        shape: The checkpoint's shape.
        kept: The ids of the output vocabulary, ascending; None means all.
    """

    def __init__(self, shape: Shape, kept: Sequence[int] | None = None) -> None:
        super().__init__()
        columns = shape.vocab_size if kept is None else len(kept)
        self.top = min(TOP, columns)
        self.layers, self.hidden_size = shape.layers, shape.hidden_size
        self.pieces = None if kept is None else OutputVocabulary(shape, kept)
        self.model = Encoder(shape, self.pieces)
        self.head = Head(shape)
        self.decoder = Decoder(columns)
        if kept is not None:
            self.head_table = nn.Parameter(torch.empty(columns, shape.hidden_size))  # the table's first rows

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        past_position_ids: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        rows: Tensor,
        seen_ids: Tensor,
        repetition_penalty: Tensor,
        temperature: Tensor,
    ) -> Prediction:
        """Run one pass.

        Args:
            input_ids: int64 [batch, seq], the tokens computed in this pass.
            position_ids: int64 [batch, seq], their positions in the canvas; -1 is padding.
            past_position_ids: int64 [batch, past], the positions of the cached tokens, in any order; -1 is none.
            past_key: float32 [layers, batch, past, hidden], after rotary embedding.
            past_value: float32 [layers, batch, past, hidden].
            rows: int64 [n], flat index into batch x seq of the positions to predict.
            seen_ids: int64 [batch, u], ids under repetition penalty.
            repetition_penalty: float32 [batch], 1 is none.
            temperature: float32 [batch].
        """
        asked, rows = torch.arange(rows.shape[0]), at_least_one_row(rows)
        past = KeyValue(past_key, past_value)
        hidden, own = self.model(input_ids, position_ids, past_position_ids, past, rows)  # [n, hidden]
        table = self.model.embeddings.tok_embeddings.weight if self.pieces is None else self.head_table
        logits = self.decoder(self.head(hidden), table)  # [n, vocab]
        raw = logits.index_select(0, asked)  # Gather copies with all threads, Slice with one
        sequence = sequences(input_ids.shape[0], input_ids.shape[1], rows)
        seen, penalty, tempering = (x.index_select(0, sequence) for x in (seen_ids, repetition_penalty, temperature))
        has = None
        if self.pieces is not None:
            seen, has = self.pieces.columns(seen, MASK)
        found = at_least_one_row(
            raw.gather(1, seen.index_select(0, asked))
        )  # from the copy, so that scatter need not make another
        changed = penalise(found, penalty[:, None])
        changed = changed if has is None else torch.where(has, changed, found)
        reductions = reduce(logits.scatter(1, seen, changed), tempering, self.top)
        top_ids, top_logits, rest, rest_tempered, entropy = (part.index_select(0, asked) for part in reductions)
        top_ids = top_ids if self.pieces is None else self.pieces.ids(top_ids)
        return Prediction(top_ids, top_logits, rest, rest_tempered, entropy, raw, own.key, own.value)


def penalise(logits: Tensor, penalty: Tensor) -> Tensor:
    """Apply the repetition penalty [n, 1] of CTRL (arXiv 1909.05858, section 4.1) to the logits of seen ids [n, u]."""
    return torch.where(logits > 0, logits / penalty, logits * penalty)


def reduce(logits: Tensor, temperature: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the best tokens, the sums over all others, and the entropy of rows of logits [n, vocab].

    The best token is left out of the sums rather than subtracted: at a confidence of 1 - 1e-9, nothing would remain of
    the rest in float32. Each sum is derived from a softmax over the others, in which the share of the second best is
    exp(second - best) over the sum: ONNX Runtime fuses it into one pass over the vocabulary, while exp and sum are two.

    Returns:
        top_ids int64 [n, top]; top_logits [n, top]; rest, rest_tempered and entropy, each [n].
    """
    top_logits, top_ids = logits.topk(top, dim=-1)  # TopK puts the lower id first among equals
    others = logits.scatter(1, top_ids[:, :1], NOTHING)
    second, gap = top_ids[:, 1:2], top_logits[:, 1] - top_logits[:, 0]
    share = others.softmax(-1)  # [n, vocab]
    rest = gap.exp() / share.gather(1, second)[:, 0]
    rest_tempered = (gap / temperature).exp() / (others / temperature[:, None]).softmax(-1).gather(1, second)[:, 0]
    below = (share * others).sum(-1) - top_logits[:, 0]  # how far the others are below the best, on average
    entropy = log1p(rest) - rest / (1 + rest) * below
    return top_ids, top_logits, rest, rest_tempered, entropy


def log1p(x: Tensor) -> Tensor:
    """Return log(1 + x) for x >= 0, exact for small x (Kahan's form; ONNX has no such operator)."""
    above = 1 + x
    return torch.where(above == 1, x, above.log() * x / (above - 1))


def parts_of(denoiser: Denoiser) -> dict[str, list[str]]:
    """Return the parameters [in, out / parts] that each matrix of a checkpoint, stored as [out, in], is split into."""
    parts = {}
    for name, module in denoiser.named_modules():
        if isinstance(module, Projections):
            parts[f"{name}.weight"] = [f"{name}.{i}.weight" for i in range(len(module))]
        elif isinstance(module, Projection) and not name[-1].isdigit():
            parts[f"{name}.weight"] = [f"{name}.weight"]
    return parts


def build(shape: Shape, tensors: Mapping[str, Tensor], kept: Sequence[int] | None = None) -> Denoiser:
    """Return the denoiser with a checkpoint's float32 tensors, and with an output vocabulary or the whole."""
    denoiser = Denoiser(shape, kept).eval().requires_grad_(False)
    state = dict(tensors)
    if denoiser.pieces is not None:
        state[TABLE] = state[TABLE][denoiser.pieces.order]
        state |= {HEAD_TABLE: state[TABLE][: len(kept or ())], BIAS: state[BIAS][denoiser.pieces.kept]}
    for name, parts in parts_of(denoiser).items():
        chunks = state.pop(name).T.chunk(len(parts), dim=1)
        state |= {part: chunk.contiguous() for part, chunk in zip(parts, chunks, strict=True)}
    denoiser.load_state_dict(state, assign=True)  # assign: shares what is not transposed instead of copying it
    return denoiser
