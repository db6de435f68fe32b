"""The reference: against transformers and the golden logits, by hand, and its laws."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffutron_ort_export.check import reference
from diffutron_ort_export.check.products import product, quantized_tensor, quantized_tokens, represented
from diffutron_ort_export.check.reference import Asked, HalfPrecisionError, Reference, rotated
from diffutron_ort_export.checkpoint.architecture import Shape, fixed, portable_config, sizes
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.graph.precision import Precision, matrix_names
from tests.export.conftest import TINY
from tests.export.rewriting import MemoryWeights, random_weights

SHAPES = {
    "one layer, one head": Shape(37, 6, 4, 1, 1, 5, 64, 1e-5, 1, 160_000.0, 10_000.0),
    "odd window, every third": Shape(101, 24, 20, 5, 3, 9, 64, 1e-5, 3, 160_000.0, 10_000.0),
    "window of nothing else": Shape(29, 16, 8, 3, 2, 1, 64, 1e-3, 2, 1000.0, 50.0),
    "local at once, all but the first": Shape(250, 20, 50, 4, 5, 6, 64, 1e-6, 10, 3.0, 1e6),
    "window beyond the canvas": Shape(64, 8, 12, 4, 1, 200, 64, 1e-5, 2, 10_000.0, 10_000.0),
}
LENGTHS = (40, 13, 1)


def canvases(shape: Shape) -> list[Asked]:
    random = np.random.default_rng(1)
    return [Asked(random.integers(shape.vocab_size, size=length), np.arange(length)[::-2]) for length in LENGTHS]


# Against others


def transformers_at_float64(shape: Shape, weights: MemoryWeights, monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformers' model, without the roundings to float32 that it has in attention whatever its dtype."""
    import torch
    from transformers.models.modernbert import modeling_modernbert as modeling

    from diffutron_ort_export.check.against import Transformers

    class Rotary(torch.nn.Module):
        """Cosines and sines of transformers' own angles."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any, position_ids: Any, layer_type: str) -> tuple[Any, Any]:
            frequencies = getattr(self.inner, f"{layer_type}_inv_freq").float()
            angles = (position_ids[..., None].float() * frequencies).double()
            both = torch.cat([angles, angles], dim=-1)
            return both.cos(), both.sin()

    def rotate(q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> tuple[Any, Any]:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return q * cos + modeling.rotate_half(q) * sin, k * cos + modeling.rotate_half(k) * sin

    config = portable_config(sizes(shape) | fixed(), shape)
    made = Transformers(SimpleNamespace(config=config, weights=weights), dtype=torch.float64)
    made.model.set_attn_implementation("sdpa")
    made.model.model.rotary_emb = Rotary(made.model.model.rotary_emb)
    monkeypatch.setattr(modeling, "apply_rotary_pos_emb", rotate)
    return made


@pytest.mark.torch
@pytest.mark.parametrize("name", SHAPES)
def test_it_equals_transformers_at_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES[name]
    weights, asked = random_weights(shape), canvases(shape)
    theirs = transformers_at_float64(shape, weights, monkeypatch)
    expected = theirs.logits(asked)
    found = Reference(weights, shape, dtype=np.float64).logits(asked)
    assert found.dtype == np.float64
    assert np.abs(found - expected).max() <= 1e-6 * expected.std()
    kept = np.arange(3, shape.vocab_size, 4)
    some = Reference(weights, shape, dtype=np.float64).logits(asked, kept)
    np.testing.assert_allclose(some, theirs.logits(asked, kept), rtol=0, atol=1e-6 * expected.std())


@pytest.mark.torch
def test_transformers_padded_batch_is_our_canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    shape = SHAPES["odd window, every third"]
    weights, asked = random_weights(shape), canvases(shape)
    theirs = transformers_at_float64(shape, weights, monkeypatch).model
    ids = np.stack([np.pad(canvas.ids, (0, LENGTHS[0] - canvas.ids.size)) for canvas in asked])
    mask = np.arange(LENGTHS[0]) < np.array(LENGTHS)[:, None]
    logits = theirs(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(int))).logits.numpy()
    expected = np.concatenate([logits[i, canvas.rows] for i, canvas in enumerate(asked)])
    found = Reference(weights, shape, dtype=np.float64).logits(asked)
    assert np.abs(found - expected).max() <= 1e-6 * expected.std()


@pytest.mark.torch
@pytest.mark.parametrize(
    "change", [{"window": 7}, {"every": 2}, {"global_theta": 2e5}, {"local_theta": 9e3}, {"norm_eps": 1e-3}]
)
def test_another_setting_is_seen(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES["odd window, every third"]
    weights, asked = random_weights(shape), canvases(shape)
    expected = transformers_at_float64(shape, weights, monkeypatch).logits(asked)
    found = Reference(weights, Shape(**{**vars(shape), **change}), dtype=np.float64).logits(asked)
    assert np.abs(found - expected).max() > 1e-4 * expected.std()


def golden(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(TINY / name))


@pytest.mark.parametrize("name", ["logits.npz", "adapter_logits.npz"])
def test_it_equals_the_golden_logits(name: str) -> None:
    source = open_source(str(TINY / "checkpoint"), adapter=str(TINY / "adapter") if "adapter" in name else None)
    recorded = golden(name)
    canvases = [ids for key, ids in recorded.items() if key.startswith("ids")]
    asked = [Asked(ids, np.arange(ids.size)) for ids in canvases]
    expected = np.concatenate([logits for key, logits in recorded.items() if key.startswith("logits")])
    found = Reference(source.weights, source.shape).logits(asked)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_it_equals_the_golden_batch() -> None:
    source, recorded = open_source(str(TINY / "checkpoint")), golden("logits.npz")
    valid = recorded["batch_mask"].astype(bool)
    asked = [
        Asked(ids[mask].astype(np.int64), np.arange(mask.sum()))
        for ids, mask in zip(recorded["batch_ids"], valid, strict=True)
    ]
    assert len({canvas.ids.size for canvas in asked}) > 1
    found = Reference(source.weights, source.shape).logits(asked)
    np.testing.assert_allclose(found, recorded["batch_logits"][valid], rtol=0, atol=1e-4)


# By hand


def test_rotation_by_hand() -> None:
    x = np.array([[[1.0, 2, 3, 4]] * 2])  # [1, 2, 4], at the positions 0 and 3; frequencies 1 and 1/10
    found = rotated(x, np.array([0, 3]), 100.0)
    np.testing.assert_array_equal(found[0, 0], x[0, 0])
    turned = [(1 + 3j) * np.exp(3j), (2 + 4j) * np.exp(0.3j)]
    np.testing.assert_allclose(found[0, 1], [turned[0].real, turned[1].real, turned[0].imag, turned[1].imag], rtol=1e-6)


def test_attention_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heads of one channel pair; the first looks for its own key, the second does not care."""
    monkeypatch.setattr(reference, "rotated", lambda x, _positions, _theta: x)
    query = np.array([[0, 9, 0, 0], [9, 0, 0, 0], [0, 9, 0, 0]]) * 100.0
    key = np.array([[1, 0, 5, 5], [0, 1, 5, 5], [1, 0, 5, 5]]) * 1.0
    value = np.array([[1, 2, 3, 30], [10, 20, 6, 60], [100, 200, 9, 90]]) * 1.0
    qkv = np.concatenate([query, key, value], axis=1)
    made = Reference(MemoryWeights({}), Shape(9, 4, 4, 2, 2, 3, 9, 1e-5, 2, 1.0, 1.0))  # layer 0 is global, 1 local
    found = made.attention(qkv, [np.arange(3)], 0)
    np.testing.assert_allclose(found[:, :2], [[10, 20], [50.5, 101], [10, 20]])
    np.testing.assert_allclose(found[:, 2:], [[6, 60]] * 3)
    assert made.excess == -np.inf
    near = made.attention(qkv, [np.arange(3)], 1)
    np.testing.assert_allclose(near[:, 2:], [[4.5, 45], [6, 60], [7.5, 75]])
    apart = made.attention(qkv, [np.arange(1), np.arange(2)], 0)
    np.testing.assert_allclose(apart, np.concatenate([made.attention(qkv[:1], [np.arange(1)], 0), apart[1:]]))
    np.testing.assert_allclose(apart[0], value[0])


def test_how_far_a_masked_score_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first query's best key is the third, by 7 of the scale, and out of its reach."""
    monkeypatch.setattr(reference, "rotated", lambda x, _positions, _theta: x)
    qkv = np.zeros((3, 12))
    qkv[0, 0], qkv[:, 4] = 1, [1, 2, 9]
    made = Reference(MemoryWeights({}), Shape(9, 4, 4, 2, 1, 3, 9, 1e-5, 2, 1.0, 1.0))
    made.attention(qkv, [np.arange(3)], 1)
    assert made.excess == pytest.approx(7 / 4**0.5)


def test_padding_is_masked_and_only_others_are_misled_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first query's best key is the padding, by 7; the padding's own is hidden by more, which does not count."""
    monkeypatch.setattr(reference, "rotated", lambda x, _positions, _theta: x)
    qkv = np.zeros((3, 12))
    qkv[0, 0], qkv[2, 0], qkv[:, 4], qkv[:, 8] = 1, -50, [1, 2, 9], [3, 3, 100]
    made = Reference(MemoryWeights({}), Shape(9, 4, 4, 2, 1, 3, 9, 1e-5, 2, 1.0, 1.0))
    found = made.attention(qkv, [Asked(np.arange(3), np.arange(2), 1).positions], 0)
    assert made.excess == pytest.approx(7 / 4**0.5)
    np.testing.assert_allclose(found[:2, 0], [3, 3])


def test_8_bit_products_by_hand() -> None:
    q, scales = quantized_tokens(np.array([[1.0, -0.5, 0.254], [100, 0, 0.3], [0, 0, 0]]))
    assert q.tolist() == [[127, -64, 32], [127, 0, 0], [0, 0, 0]]  # -63.5 goes to even
    np.testing.assert_allclose(scales[:2], [[1 / 127], [100 / 127]])
    matrix = np.array([[127.0, 0.4, -0.6], [0, 0, 254]], np.float32)
    np.testing.assert_allclose(represented(matrix, Precision.INT8), [[127, 0, -1], [0, 0, 254]])
    q, scale = quantized_tensor(np.array([[2.0, -1, 0.004], [0, 0, 0.02]]))
    assert scale == 3 / 255
    assert q.tolist() == [[170, -85, 0], [0, 0, 2]]
    x = np.array([[127.0, 64.4, 2.5]])
    np.testing.assert_allclose(product(x, matrix, Precision.INT8), [[127 * 127 - 2, 2 * 254]])


@pytest.mark.parametrize(
    ("x", "weight", "found"),
    [
        ([2049, -2047], [1, 1], 1),
        ([1, 1], [2049, -2047], 1),
        ([2048, 1], [1, 1], 2048),
        ([2048, 2], [1, 1], 2050),
        ([300, 300], [300, 0], np.inf),
    ],
)
def test_half_precision_by_hand(x: list[int], weight: list[int], found: float) -> None:
    """From 2,048 on it has even numbers alone, whether they go in, are weights, or come out."""
    result = product(np.array([x], np.float32), np.array([weight], np.float32), Precision.FLOAT16)
    assert (result.dtype, result.item()) == (np.float32, found)


# Laws

SHAPE = SHAPES["odd window, every third"]


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.FLOAT16, Precision.INT8])
def test_a_canvas_among_others_is_the_canvas_alone(precision: Precision) -> None:
    made = Reference(random_weights(SHAPE), SHAPE, precisions=dict.fromkeys(matrix_names(SHAPE), precision))
    asked = canvases(SHAPE)
    together = made.logits(asked)
    assert together.shape == (sum(canvas.rows.size for canvas in asked), SHAPE.vocab_size)
    # float32 sums hang on how many rows a product has, and tip an 8-bit rounding now and then.
    np.testing.assert_allclose(together, np.concatenate([made.logits([canvas]) for canvas in asked]), atol=2e-2)
    if precision is Precision.FLOAT32:
        np.testing.assert_allclose(together, np.concatenate([made.logits([c]) for c in asked]), atol=1e-5)


def test_rows_and_kept_columns_are_selections() -> None:
    made, ids = Reference(random_weights(SHAPE), SHAPE, dtype=np.float64), canvases(SHAPE)[0].ids
    whole = made.logits([Asked(ids, np.arange(ids.size))])
    rows, kept = np.array([7, 3, 3]), np.array([0, 5, 99, 100])  # the last chunk of the table has one row
    np.testing.assert_allclose(made.logits([Asked(ids, rows)], kept), whole[rows][:, kept], rtol=0, atol=1e-12)
    assert made.logits([Asked(ids, rows[:0])]).shape == (0, SHAPE.vocab_size)
    assert [part.ids.tolist() for part in made.parts([Asked(ids, rows)], kept)] == [[0, 5, 99], [100]]
    assert [part.ids.tolist() for part in made.parts([Asked(ids, rows)], kept[-1:])] == [[100]]


def test_each_tensor_is_read_once_for_all_canvases() -> None:
    weights = random_weights(SHAPE)
    Reference(weights, SHAPE).states(canvases(SHAPE))
    read = [name for name in weights.read if name != TABLE]
    assert sorted(read) == sorted(name for name in weights.shapes if name not in (TABLE, BIAS))


def test_precisions_hold_for_the_matrices_that_they_name() -> None:
    asked, plain = canvases(SHAPE), Reference(random_weights(SHAPE), SHAPE).logits(canvases(SHAPE))
    for name in matrix_names(SHAPE):
        changed = Reference(random_weights(SHAPE), SHAPE, precisions={name: Precision.INT8}).logits(asked)
        assert 1e-4 < np.abs(changed - plain).max() < 1, name


@pytest.mark.parametrize("name", ["model.layers.2.attn.Wqkv", "head.dense", "model.embeddings.tok_embeddings"])
def test_a_product_that_overflows_half_precision_names_its_matrix(name: str) -> None:
    weights = random_weights(SHAPE)
    weights.tensors[f"{name}.weight"][0] *= 1e6
    half = Reference(weights, SHAPE, precisions=dict.fromkeys(matrix_names(SHAPE), Precision.FLOAT16))
    asked = [Asked(np.zeros(4, np.int64), np.arange(4))]
    with pytest.raises(HalfPrecisionError) as caught:
        half.logits(asked)
    assert caught.value.matrix == name
    assert np.isfinite(Reference(weights, SHAPE).logits(asked)).all()
