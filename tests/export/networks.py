"""Small networks of random weights: their graphs in ONNX Runtime, and what they compute, in plain numpy at float64."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import DENOISER_INPUTS, DENOISER_OUTPUTS, for_layers
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE, tensor_shapes
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.masking import CERTAIN
from diffutron_ort_export.graph.precision import Precision, Precisions, matrix_names
from tests.export.rewriting import MemoryWeights, Tensors

SMALL = Shape(
    vocab_size=150,
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=2,
    window=8,
    positions=256,
    norm_eps=1e-5,
    every=2,
    global_theta=160_000.0,
    local_theta=10_000.0,
)
"""A global layer and a local one, which sees four tokens to each side."""


def random_tensors(shape: Shape = SMALL, seed: int = 0) -> Tensors:
    """Return weights by which tokens look at each other, and predict each other, unevenly."""
    random, tensors = np.random.default_rng(seed), {}
    for name, size in tensor_shapes(shape).items():
        values = random.normal(size=size)
        if "norm" in name:
            values = 1 + values / 5
        elif name not in (TABLE, BIAS):
            values *= 2 / math.sqrt(size[-1])
        tensors[name] = values.astype(np.float32)
    return tensors


def source_of(shape: Shape, tensors: Tensors, kept: Sequence[int] | None = None) -> Source:
    """Return a checkpoint without tokenizer and settings, which graphs do not depend on."""
    return Source(
        name="random",
        revision=None,
        adapter=None,
        shape=shape,
        config={},
        weights=MemoryWeights(tensors, 37),
        tokenizer=None,
        generation={},
        output_vocabulary=None if kept is None else tuple(kept),
    )


def all_in(precision: Precision, shape: Shape = SMALL) -> Precisions:
    """Return one precision for every matrix."""
    return dict.fromkeys(matrix_names(shape), precision)


def written(
    folder: Path,
    shape: Shape = SMALL,
    *,
    tensors: Tensors | None = None,
    precisions: Precisions | None = None,
    kept: Sequence[int] | None = None,
    masked: float = CERTAIN,
) -> Path:
    """Write a network's graph; by default of random weights, at float32."""
    tensors = random_tensors(shape) if tensors is None else tensors
    path = folder / "denoiser.onnx"
    precisions = all_in(Precision.FLOAT32, shape) if precisions is None else precisions
    write_denoiser(source_of(shape, tensors, kept), path, precisions, {}, masked)
    return path


class Running:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, shape: Shape = SMALL, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.x64quantprecision", "1")  # 8-bit products that never saturate
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in for_layers(DENOISER_OUTPUTS, shape.layers)]
        self.inputs, self.shape = for_layers(DENOISER_INPUTS, shape.layers), shape

    def __call__(self, ids: Any, positions: Any = None, rows: Any = None, **others: Any) -> dict[str, NDArray[Any]]:
        """Run a pass over `ids` [batch, seq] or [seq], and return its outputs by name.

        By default positions count from 0, all rows are predicted, logits and entropy are wanted, and there is no past,
        no penalty, no suppressed id and no target.
        """
        ids = np.atleast_2d(np.asarray(ids))
        batch, seq = ids.shape
        rows = np.arange(ids.size) if rows is None else np.asarray(rows, np.int64)
        positions = np.tile(np.arange(seq), (batch, 1)) if positions is None else np.atleast_2d(positions)
        sizes = {"batch": batch, "seq": seq, "n": rows.size, "past": 0, "u": 0, "s": 0, "t": 0}
        sizes["hidden"] = self.shape.hidden_size
        ones = ("repetition_penalty", "temperature", "want_logits", "want_entropy")
        feed = {v.name: np.full(v.shape(sizes), float(v.name in ones), v.dtype) for v in self.inputs}
        given = {"input_ids": ids, "position_ids": positions, "rows": rows, **others}
        assert given.keys() <= feed.keys()
        feed |= {name: np.asarray(value, feed[name].dtype) for name, value in given.items()}
        return dict(zip(self.names, self.session.run(self.names, feed), strict=True))

    def past(self, found: Mapping[str, NDArray[Any]], order: Any) -> dict[str, NDArray[Any]]:
        """Return keys and values that a pass returned as a past, its tokens in some order."""
        layers = range(self.shape.layers)
        return {f"past_{part}.{i}": found[f"{part}.{i}"][:, order] for i in layers for part in ("key", "value")}


def network(tensors: Tensors, shape: Shape, ids: Ids, positions: Ids | None = None) -> Floats:
    """Return the logits of a sequence, float64 [seq, vocab], given its tokens and their positions [seq]."""
    positions = np.arange(len(ids)) if positions is None else positions
    x = norm(tensors[TABLE][ids].astype(np.float64), tensors["model.embeddings.norm.weight"], shape)
    for i in range(shape.layers):
        own = {name.removeprefix(f"model.layers.{i}."): value for name, value in tensors.items()}
        normed = norm(x, own["attn_norm.weight"], shape) if i else x
        x = x + attention(normed @ own["attn.Wqkv.weight"].T, positions, shape, i) @ own["attn.Wo.weight"].T
        value, gate = np.split(norm(x, own["mlp_norm.weight"], shape) @ own["mlp.Wi.weight"].T, 2, axis=1)
        x = x + (gelu(value) * gate) @ own["mlp.Wo.weight"].T
    x = gelu(norm(x, tensors["model.final_norm.weight"], shape) @ tensors["head.dense.weight"].T)
    return norm(x, tensors["head.norm.weight"], shape) @ tensors[TABLE].T + tensors[BIAS]


def attention(qkv: Floats, positions: Ids, shape: Shape, layer: int) -> Floats:
    """Return what tokens take from each other: [seq, 3 * hidden] -> [seq, hidden]."""
    is_global = layer % shape.every == 0
    theta, half = shape.global_theta if is_global else shape.local_theta, shape.head_size // 2
    frequencies = 1 / np.float32(theta) ** (np.arange(half, dtype=np.float32) / np.float32(half))
    angles = np.exp(1j * (positions[:, None].astype(np.float32) * frequencies))  # [seq, half]
    distance, results = np.abs(positions[:, None] - positions), []
    for q, k, v in zip(*(np.split(part, shape.heads, axis=1) for part in np.split(qkv, 3, axis=1)), strict=True):
        turned = ((part[:, :half] + 1j * part[:, half:]) * angles for part in (q, k))
        a, b = (np.concatenate([part.real, part.imag], axis=1) for part in turned)
        scores = np.where(is_global | (distance <= shape.window // 2), a @ b.T / math.sqrt(2 * half), -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        results.append(weights / weights.sum(axis=1, keepdims=True) @ v)
    return np.concatenate(results, axis=1)


def norm(x: Floats, weight: Floats, shape: Shape) -> Floats:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + shape.norm_eps) * weight


def gelu(x: Floats) -> Floats:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def reduced(
    raw: NDArray[np.float32],
    ids: Ids,
    seen: Sequence[int] = (),
    suppressed: Sequence[int] = (),
    penalty: float = 1,
    temperature: float = 1,
) -> dict[str, NDArray[Any]]:
    """Return what the graph says of a row of raw logits [columns] of the tokens `ids`, the sums at float64."""
    logits, penalty = raw.copy(), np.float32(penalty)
    marked = np.isin(ids, seen)
    logits[marked] = np.where(raw[marked] > 0, raw[marked] / penalty, raw[marked] * penalty)
    logits[np.isin(ids, suppressed)] = -1e30
    best_first = np.argsort(-logits, kind="stable")  # of equal ones the lower id is first
    top, down = best_first[:64], logits[best_first[1:]].astype(np.float64) - logits[best_first[0]]
    rest = np.exp(down).sum()
    return {
        "top_ids": ids[top],
        "top_logits": logits[top],
        "rest": rest,
        "rest_tempered": np.exp(down / np.float64(np.float32(temperature))).sum(),
        "entropy": np.log1p(rest) - (np.exp(down) * down).sum() / (1 + rest),
    }


def check_row(found: Mapping[str, NDArray[Any]], row: int, expected: Mapping[str, Any], temperature: float = 1) -> None:
    """Check what a graph says of a row; the best tokens are to be the same to the bit.

    Logits are divided by the temperature in float32, which rounds their quotient.
    """
    rounding = np.finfo(np.float32).eps * np.abs(expected["top_logits"]).max(
        where=expected["top_logits"] > -1e30, initial=0
    )
    np.testing.assert_array_equal(found["top_ids"][row], expected["top_ids"])
    np.testing.assert_array_equal(found["top_logits"][row], expected["top_logits"])
    for name, tolerance in (("rest", 1e-5), ("rest_tempered", 2e-5 + rounding / temperature), ("entropy", 1e-5)):
        np.testing.assert_allclose(found[name][row], expected[name], rtol=tolerance, atol=1e-30, err_msg=name)
