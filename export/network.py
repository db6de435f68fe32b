"""The denoiser as one `nn.Module` with exactly the signature of the graph.

It is ModernBERT as transformers computes it (`models/modernbert/modeling_modernbert.py`), written over positions
instead of indices: keys are order-free once rotated and every mask is a function of positions, so the same network
serves a full pass and a pass over some tokens against the cached keys and values of all others.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from .architecture import Shape

TOP = 64
"""How many candidates leave the graph for each row."""

MASKED = -1e4
"""Added to a masked score. Finite: with −inf a row that sees nothing is NaN in several releases of ONNX Runtime."""


class Projection(nn.Module):
    """A product with a matrix kept as [in, out], so that MatMul reads it from the file as it lies there."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return x @ self.weight


class Rotary(nn.Module):
    """Cosines and sines of the rotary embedding, one row a position (RoFormer, arXiv 2104.09864, equation 34)."""

    def __init__(self, theta: float, head_size: int, positions: int) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, head_size, 2, dtype=torch.float) / head_size))
        angles = torch.arange(positions, dtype=torch.float)[:, None] * frequencies  # [positions, head_size / 2]
        self.cos = nn.Buffer(angles.cos(), persistent=False)
        self.sin = nn.Buffer(angles.sin(), persistent=False)

    def forward(self, x: Tensor, places: Tensor, heads: int) -> Tensor:
        """Rotates x [batch, seq, hidden] by its places [batch, seq], which are not negative."""
        return torch.onnx.ops.rotary_embedding(x, self.cos, self.sin, places, num_heads=heads)


class KeyValue(NamedTuple):
    """What attention reads of the tokens of a pass: rotated keys and values, each [batch, tokens, hidden]."""

    key: Tensor
    value: Tensor


class Attention(nn.Module):
    """Attention over the computed tokens and the past."""

    def __init__(self, shape: Shape, rotary: Rotary) -> None:
        super().__init__()
        self.heads = shape.heads
        self.rotary = rotary
        self.Wqkv = Projection(shape.hidden_size, 3 * shape.hidden_size)
        self.Wo = Projection(shape.hidden_size, shape.hidden_size)

    def forward(
        self, x: Tensor, places: Tensor, past: KeyValue, mask: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """[batch, seq, hidden] -> the same or, given rows, [1, n, hidden]; and the keys and values of these tokens.

        The mask fits: [batch, 1, seq, total] or, given rows, [1, 1, n + 1, batch * total].
        """
        query, key, value = self.Wqkv(x).chunk(3, dim=-1)
        query = self.rotary(query, places, self.heads)
        own = KeyValue(self.rotary(key, places, self.heads), value)
        keys, values = (torch.cat(pair, dim=1) for pair in zip(past, own, strict=True))
        if rows is not None:
            query, keys, values = pick(query, one_more(rows)), keys.flatten(0, 1)[None], values.flatten(0, 1)[None]
        mixed, *_ = torch.onnx.ops.attention(query, keys, values, mask, q_num_heads=self.heads, kv_num_heads=self.heads)
        return self.Wo(mixed if rows is None else mixed[:, :-1]), own


class GatedUnit(nn.Module):
    """GeGLU (Shazeer, arXiv 2002.05202) with the exact, error-function gelu."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.Wi = Projection(shape.hidden_size, 2 * shape.intermediate_size)
        self.Wo = Projection(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        value, gate = self.Wi(x).chunk(2, dim=-1)
        return self.Wo(F.gelu(value) * gate)


class Layer(nn.Module):
    """Attention and gated unit, each behind its norm and added to the stream."""

    def __init__(self, shape: Shape, index: int, rotary: Rotary) -> None:
        super().__init__()
        self.attn_norm = norm(shape) if index else nn.Identity()  # the embedding has just been normed
        self.attn = Attention(shape, rotary)
        self.mlp_norm = norm(shape)
        self.mlp = GatedUnit(shape)

    def forward(
        self, x: Tensor, places: Tensor, past: KeyValue, mask: Tensor, rows: Tensor | None = None
    ) -> tuple[Tensor, KeyValue]:
        """[batch, seq, hidden] -> the same or, given rows, [1, n, hidden]; and the keys and values of these tokens."""
        mixed, own = self.attn(self.attn_norm(x), places, past, mask, rows)
        x = mixed + (x if rows is None else pick(x, rows))
        return x + self.mlp(self.mlp_norm(x)), own


def norm(shape: Shape) -> nn.LayerNorm:
    """A layer norm without bias over the hidden size."""
    return nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps, bias=False)


class Embeddings(nn.Module):
    """Token table and norm; positions enter by rotation alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.norm = norm(shape)

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, seq] -> [batch, seq, hidden]."""
        return self.norm(self.tok_embeddings(ids))


class Encoder(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.window = shape.window
        self.is_global = shape.is_global
        rotary = {theta: Rotary(theta, shape.head_size, shape.positions) for theta in set(shape.thetas)}
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList(Layer(shape, i, rotary[theta]) for i, theta in enumerate(shape.thetas))
        self.final_norm = norm(shape)

    def forward(
        self, ids: Tensor, positions: Tensor, past_positions: Tensor, past: KeyValue, rows: Tensor
    ) -> tuple[Tensor, KeyValue]:
        """Hidden states of the rows [n, hidden], and all tokens' keys and values, each [layers, batch, seq, hidden].

        Nothing but the rows leaves the last layer, so all else is left out there behind its keys and values.
        """
        x = self.embeddings(ids)
        places = positions.clamp(min=0)  # the operator rejects -1
        seen = masks(positions, torch.cat([past_positions, positions], dim=1), self.window)
        computed = []
        for i, layer in enumerate(self.layers):
            mask, cached = seen[self.is_global[i]], KeyValue(past.key[i], past.value[i])
            if i < len(self.layers) - 1:
                x, own = layer(x, places, cached, mask)
            else:
                x, own = layer(x, places, cached, flat_mask(mask, one_more(rows)), rows)
            computed.append(own)
        return self.final_norm(x[0]), KeyValue(*(torch.stack(part) for part in zip(*computed, strict=True)))


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """The rows, flat indices into batch x seq, as one sequence: [batch, seq, hidden] -> [1, n, hidden]."""
    return x.flatten(0, 1).index_select(0, rows)[None]


def one_more(rows: Tensor) -> Tensor:
    """[n] -> [n + 1], for n may be 0: ONNX Runtime's Attention refuses no queries, and 1.23's TopK divides by none."""
    return torch.cat([rows, rows.new_zeros(1)])


def sequences(batch: int, seq: int, rows: Tensor) -> Tensor:
    """Which sequence each row is of; int64 [n]."""
    return torch.arange(batch)[:, None].expand(batch, seq).flatten().index_select(0, rows)


def flat_mask(mask: Tensor, rows: Tensor) -> Tensor:
    """The mask for rows as one sequence over the keys of all: [batch, 1, seq, total] -> [1, 1, n, batch * total].

    A row sees the keys of its own sequence alone.
    """
    batch, _, seq, _ = mask.shape
    wanted = mask.flatten(0, 2).index_select(0, rows)[:, None]  # [n, 1, total]
    same = torch.arange(batch) == sequences(batch, seq, rows)[:, None]  # [n, batch]
    return torch.where(same[:, :, None], wanted, MASKED).flatten(1)[None, None]


def masks(queries: Tensor, keys: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """What is added to the scores of local and of global layers, each [batch, 1, seq, total].

    Args:
        queries: positions of the computed tokens, int64 [batch, seq].
        keys: positions of the past and of the computed tokens, int64 [batch, total]; -1 is none.
        window: a local layer sees the keys with |i - j| <= window / 2.
    """
    valid = (keys >= 0)[:, None, None, :].expand(-1, -1, queries.shape[1], -1)
    distance = (queries[:, None, :, None] - keys[:, None, None, :]).abs()
    near = valid & (distance <= window // 2)
    return additive(near), additive(valid)


def additive(allowed: Tensor) -> Tensor:
    """0 where a score is allowed, else `MASKED`."""
    return torch.where(allowed, 0.0, MASKED)


class Head(nn.Module):
    """The transform before the table: dense, gelu, norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dense = Projection(shape.hidden_size, shape.hidden_size)
        self.norm = norm(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[n, hidden] -> [n, hidden]."""
        return self.norm(F.gelu(self.dense(x)))


class Decoder(nn.Module):
    """The bias of the product with the embedding table, which is the embedding's own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(shape.vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """[n, hidden], [vocab, hidden] -> [n, vocab]."""
        return F.linear(x, table, self.bias)


class Prediction(NamedTuple):
    """The outputs of the graph, in its order; DESIGN.md says what each holds."""

    top_ids: Tensor
    top_logits: Tensor
    rest: Tensor
    rest_tempered: Tensor
    entropy: Tensor
    logits: Tensor
    key: Tensor
    value: Tensor


class Denoiser(nn.Module):
    """What the graph computes; its parameters have the names they have in a checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.top = min(TOP, shape.vocab_size)
        self.model = Encoder(shape)
        self.head = Head(shape)
        self.decoder = Decoder(shape)

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
        """One pass.

        Args:
            input_ids: int64 [batch, seq], the tokens computed in this pass.
            position_ids: int64 [batch, seq], their places in the canvas; -1 is padding.
            past_position_ids: int64 [batch, past], places of the cached tokens in any order; -1 is none.
            past_key: float32 [layers, batch, past, hidden], after rotary embedding.
            past_value: float32 [layers, batch, past, hidden].
            rows: int64 [n], flat index into batch x seq of the positions to predict.
            seen_ids: int64 [batch, u], ids under repetition penalty.
            repetition_penalty: float32 [batch], 1 is none.
            temperature: float32 [batch].
        """
        past = KeyValue(past_key, past_value)
        hidden, own = self.model(input_ids, position_ids, past_position_ids, past, rows)  # [n, hidden]
        logits = self.decoder(self.head(hidden), self.model.embeddings.tok_embeddings.weight)  # [n, vocab]
        sequence = sequences(input_ids.shape[0], input_ids.shape[1], one_more(rows))
        seen, penalty, tempering = (x.index_select(0, sequence) for x in (seen_ids, repetition_penalty, temperature))
        padded = F.pad(logits, (0, 0, 0, 1))  # the copy that scatter would make is made here
        reduced = reduce(penalise(padded, seen, penalty), tempering, self.top)
        return Prediction(*(part[:-1] for part in reduced), logits, own.key, own.value)


def penalise(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """The repetition penalty of CTRL (arXiv 1909.05858, section 4.1), once for each seen id.

    Reads all seen logits before it writes one, so an id that occurs twice in `seen` gets the same value twice.

    Args:
        logits: [n, vocab].
        seen: int64 [n, u].
        penalty: [n].
    """
    found = logits.gather(1, seen)
    penalty = penalty[:, None]
    return logits.scatter(1, seen, torch.where(found > 0, found / penalty, found * penalty))


def reduce(logits: Tensor, temperature: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Best tokens, the sums over all others, and the entropy of rows of logits [n, vocab].

    The best token is taken out before the sums, not off a total: at a confidence of 1 - 1e-9 nothing would be left of
    the rest in float32. Max, subtract, exp and sum are 11 times faster in ONNX Runtime than ReduceLogSumExp.

    Returns:
        top_ids int64 [n, top]; top_logits [n, top]; rest, rest_tempered and entropy, each [n].
    """
    top_logits, top_ids = logits.topk(top, dim=-1)  # TopK puts the lower id first among equals
    others = (logits - top_logits[:, :1]).scatter(1, top_ids[:, :1], torch.finfo(logits.dtype).min)
    odds = others.exp()  # [n, vocab], against the best; 0 for the best itself
    rest = odds.sum(-1)
    rest_tempered = (others / temperature[:, None]).exp().sum(-1)
    entropy = log1p(rest) - (odds * others).sum(-1) / (1 + rest)
    return top_ids, top_logits, rest, rest_tempered, entropy


def log1p(x: Tensor) -> Tensor:
    """log(1 + x) for x >= 0, to the last bits where x is small (Kahan's form; ONNX has no such operator)."""
    above = 1 + x
    return torch.where(above == 1, x, above.log() * x / (above - 1))


def parameter_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a checkpoint of this shape has, a tied table once."""
    with torch.device("meta"):
        denoiser = Denoiser(shape)
    turned = transposed(denoiser)
    sizes = {name: tuple(parameter.shape) for name, parameter in denoiser.named_parameters()}
    return {name: size[::-1] if name in turned else size for name, size in sizes.items()}


def transposed(denoiser: Denoiser) -> set[str]:
    """Names of the matrices that a checkpoint keeps as [out, in]."""
    return {f"{name}.weight" for name, module in denoiser.named_modules() if isinstance(module, Projection)}


def build(shape: Shape, tensors: Mapping[str, Tensor]) -> Denoiser:
    """The denoiser with a checkpoint's float32 tensors."""
    denoiser = Denoiser(shape).eval().requires_grad_(False)
    turned = transposed(denoiser)
    # assign: shares what is not turned instead of copying it.
    denoiser.load_state_dict({k: v.T.contiguous() if k in turned else v for k, v in tensors.items()}, assign=True)
    return denoiser
