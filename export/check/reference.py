"""ModernBERT's masked language model in numpy: what every exported graph is compared with.

It is written from the equations of the model (transformers' `models/modernbert/modeling_modernbert.py`), shares no code
with the graph, and reads each layer's weights once for all canvases of a call. Canvases lie one after another in an
array of tokens, without padding: `tokens` is their total length, `seq` the length of one of them, and `n` the total
number of rows to predict.
"""

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.error_function import erf
from diffutron_ort_export.check.products import product, represented
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.checkpoint.weights import Weights
from diffutron_ort_export.graph.precision import TABLE_MATRIX, Precision, Precisions

FLOAT32: Precisions = MappingProxyType({})
"""The precisions of the checkpoint itself: every matrix without an entry is float32."""


class Asked(NamedTuple):
    """A canvas, and its rows that are to be predicted."""

    ids: Ids  # [seq]
    rows: Ids  # [n], positions in the canvas
    padding: int = 0  # the number of tokens at the end that no other token sees

    @property
    def positions(self) -> Ids:
        """The positions of the tokens, int64 [seq]; -1 is padding."""
        places = np.arange(self.ids.size)
        places[self.ids.size - self.padding :] = -1
        return places


class Columns(NamedTuple):
    """The logits of some tokens."""

    ids: Ids  # [columns], ascending
    logits: Floats  # [n, columns]


class Oracle(Protocol):
    """What graphs are compared with."""

    def logits(self, asked: Sequence[Asked], kept: Ids | None = None) -> Floats:
        """Return the logits of all rows, in the order of the canvases: [n, columns].

        Args:
            asked: At least one canvas.
            kept: The ids [columns], ascending, whose logits are wanted; None means all.
        """

    def parts(self, asked: Sequence[Asked], kept: Ids | None = None) -> Iterator[Columns]:
        """Yield the same logits in parts of the vocabulary, so that few are in memory."""


class HalfPrecisionError(Exception):
    """A product overflowed half precision.

    Attributes:
        matrix: The name of the product's matrix.
    """

    def __init__(self, matrix: str) -> None:
        super().__init__(matrix)
        self.matrix = matrix


class Reference:
    """The network with a checkpoint's weights.

    Attributes:
        weights: The checkpoint's tensors.
        shape: The network's shape.
        dtype: The dtype of all activations, float32 or float64.
        precisions: The precision of each matrix's products; float32 (here: `dtype`) for one without an entry.
        excess: The most by which the score of a masked key has exceeded all visible ones so far, in any local layer.
    """

    def __init__(
        self,
        weights: Weights,
        shape: Shape,
        *,
        dtype: type[np.floating] = np.float32,
        precisions: Precisions = FLOAT32,
    ) -> None:
        self.weights, self.shape, self.dtype, self.precisions = weights, shape, dtype, precisions
        self.excess = -np.inf

    def logits(self, asked: Sequence[Asked], kept: Ids | None = None) -> Floats:
        """Return the logits of all rows, as an `Oracle`.

        Raises:
            HalfPrecisionError: A product in half precision overflows.
        """
        size = self.shape.vocab_size if kept is None else len(kept)
        result, end = np.empty((sum(canvas.rows.size for canvas in asked), size), self.dtype), 0
        for part in self.parts(asked, kept):
            first, end = end, end + part.ids.size
            result[:, first:end] = part.logits
        return result

    def states(self, asked: Sequence[Asked]) -> Floats:
        """Return what the head multiplies with the table, for all rows in the order of the canvases: [n, hidden]."""
        ends = np.cumsum([0, *(canvas.ids.size for canvas in asked)])
        rows = np.concatenate([first + canvas.rows for first, canvas in zip(ends, asked, strict=False)])
        positions = [canvas.positions for canvas in asked]
        x = self.embedded(np.concatenate([canvas.ids for canvas in asked]))  # [tokens, hidden]
        for index in range(self.shape.layers):
            x = self.layer(x, positions, index)
        x = self.norm(x[rows], "model.final_norm")  # [n, hidden]
        return self.norm(gelu(self.product(x, "head.dense")), "head.norm")

    def parts(self, asked: Sequence[Asked], kept: Ids | None = None) -> Iterator[Columns]:
        """Yield the logits of all rows, as an `Oracle`."""
        states = self.states(asked)
        end, bias = 0, self.weights.rows(BIAS).astype(self.dtype)
        for chunk in self.weights.chunks(TABLE):  # [rows, hidden]
            first, end = end, end + len(chunk)
            ids = np.arange(first, end)
            if kept is not None:
                ids = kept[(first <= kept) & (kept < end)]
                chunk = chunk[ids - first]
            if ids.size:
                yield Columns(ids, self.multiplied(states, chunk, TABLE_MATRIX) + bias[ids])

    def embedded(self, ids: Ids) -> Floats:
        """Return the normalized embeddings of tokens: [tokens] -> [tokens, hidden]."""
        unique, places = np.unique(ids, return_inverse=True)
        table = np.concatenate([self.weights.rows(TABLE, i, i + 1) for i in unique.tolist()])
        x = represented(table, self.precision(TABLE_MATRIX)).astype(self.dtype)[places]
        return self.norm(self.finite(x, TABLE_MATRIX), "model.embeddings.norm")

    def layer(self, x: Floats, positions: Sequence[Ids], index: int) -> Floats:
        """Return the stream after a layer: [tokens, hidden] -> the same."""
        name = f"model.layers.{index}"
        normed = self.norm(x, f"{name}.attn_norm") if index else x  # the embedding has just been normalized
        x = x + self.product(
            self.attention(self.product(normed, f"{name}.attn.Wqkv"), positions, index), f"{name}.attn.Wo"
        )
        units = self.product(self.norm(x, f"{name}.mlp_norm"), f"{name}.mlp.Wi")  # [tokens, 2 * intermediate]
        value, gate = np.split(units, 2, axis=1)
        return x + self.product(gelu(value) * gate, f"{name}.mlp.Wo")

    def attention(self, qkv: Floats, positions: Sequence[Ids], index: int) -> Floats:
        """Return the mixed values of each canvas's tokens: [tokens, 3 * hidden] -> [tokens, hidden]."""
        shape, theta = self.shape, self.shape.thetas[index]
        reach = None if shape.is_global[index] else shape.window // 2
        mixed = []
        for places, part in zip(positions, np.split(qkv, np.cumsum([p.size for p in positions])[:-1]), strict=True):
            seq = places.size
            query, key, value = part.reshape(seq, 3, shape.heads, -1).transpose(1, 2, 0, 3)  # [heads, seq, size]
            query, key = rotated(query, places, theta), rotated(key, places, theta)
            scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.dtype.type(query.shape[-1]))  # [heads, seq, seq]
            self.mask(scores, hidden_keys(places, reach), places >= 0)
            mixed.append((softmax(scores) @ value).transpose(1, 0, 2).reshape(seq, -1))
        return np.concatenate(mixed)

    def mask(self, scores: Floats, hidden: NDArray[np.bool_], counts: NDArray[np.bool_]) -> None:
        """Mask scores [heads, seq, seq] where `hidden` [seq, seq] says so, and note by how much they stood out.

        Only the queries that `counts` [seq], those of no padding, can be misled.
        """
        if hidden.any():
            visible = np.where(hidden, -np.inf, scores).max(axis=-1)
            masked = np.where(hidden, scores, -np.inf).max(axis=-1)
            self.excess = max(self.excess, float((masked - visible)[:, counts].max()))
            scores[:, hidden] = -np.inf

    def norm(self, x: Floats, name: str) -> Floats:
        """Return x [tokens, hidden] with mean 0 and variance 1 for each token, times the norm's weights."""
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        weights = self.weights.rows(f"{name}.weight").astype(self.dtype)  # [hidden]
        return np.asarray(centred / np.sqrt(variance + self.dtype(self.shape.norm_eps)) * weights)

    def product(self, x: Floats, name: str) -> Floats:
        """Return the product with a matrix [out, in]: [tokens, in] -> [tokens, out]."""
        return self.multiplied(x, self.weights.rows(f"{name}.weight"), name)

    def multiplied(self, x: Floats, matrix: NDArray[np.float32], name: str) -> Floats:
        """Return the product with some rows of the matrix called `name`: [tokens, in], [rows, in] -> [tokens, rows]."""
        return self.finite(product(x, matrix, self.precision(name)), name)

    def precision(self, name: str) -> Precision:
        """Return the precision of a matrix."""
        return self.precisions.get(name, Precision.FLOAT32)

    def finite(self, x: Floats, name: str) -> Floats:
        """Return x, if it is no overflow of half precision."""
        if self.precision(name) is Precision.FLOAT16 and not np.isfinite(x).all():
            raise HalfPrecisionError(name)
        return x


def hidden_keys(positions: Ids, reach: int | None) -> NDArray[np.bool_]:
    """Return whether a key is hidden from a query: int64 [seq] -> [seq, seq].

    Args:
        positions: Those of the tokens; -1 is padding, which sees itself, and which nothing else sees.
        reach: The greatest distance of tokens that see each other; None is unlimited.
    """
    hidden = np.broadcast_to(positions < 0, (positions.size, positions.size)).copy()
    if reach is not None:
        hidden |= np.abs(positions[:, None] - positions) > reach
    np.fill_diagonal(hidden, False)  # of numpy's
    return hidden


def rotated(x: Floats, positions: Ids, theta: float) -> Floats:
    """Rotate each pair of channels by its frequency times the position: [heads, seq, size] -> the same.

    This is RoFormer (arXiv 2104.09864, equation 34), with channel i paired with i + size / 2. The angles are float32
    even where x is float64, as in transformers: the network was trained with them.
    """
    half = x.shape[-1] // 2
    frequencies = 1 / np.float32(theta) ** (np.arange(half, dtype=np.float32) / np.float32(half))
    angles = (positions[:, None].astype(np.float32) * frequencies).astype(x.dtype)  # [seq, size / 2]
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def softmax(scores: Floats) -> Floats:
    """Return the softmax over the last axis."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def gelu(x: Floats) -> Floats:
    """Return x times the normal distribution's cumulative probability of x: the exact gelu."""
    return x * (1 + erf(x / np.sqrt(x.dtype.type(2)))) / 2
