"""Products in 8 bits and half precision: what is stored, the arithmetic by hand, and which rows change which."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxscript import GraphBuilder, nn

from diffutron_ort_export.check.reference import Asked, Reference
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.graph import vocabulary
from diffutron_ort_export.graph.denoiser import write_denoiser, write_sharing, zero_point
from diffutron_ort_export.graph.head import Table
from diffutron_ort_export.graph.masking import FAINT
from diffutron_ort_export.graph.precision import TABLE_MATRIX, Precision, half, matrix_names, quantized
from diffutron_ort_export.graph.products import Product, Rounding, operand
from diffutron_ort_export.graph.values import FLOAT, INT64
from diffutron_ort_export.graph.vocabulary import Columns
from diffutron_ort_export.graph.weights_file import WeightsFile
from tests.export.networks import SMALL, Running, all_in, random_tensors, source_of, written
from tests.export.rewriting import MemoryWeights, Tensors, graph_of, places

INT8, PER_TENSOR = Precision.INT8, Precision.INT8_PER_TENSOR
IDS = np.random.default_rng(21).integers(0, SMALL.vocab_size, 40)


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return random_tensors(seed=5)


@pytest.fixture(scope="module")
def graphs(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    """The same network in every precision; its head has three parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "PART", 50)
        return {
            precision: written(tmp_path_factory.mktemp(precision), tensors=tensors, precisions=all_in(precision))
            for precision in Precision
        }


@pytest.fixture(scope="module")
def run(graphs: dict[Precision, Path]) -> dict[Precision, Running]:
    return {precision: Running(path) for precision, path in graphs.items()}


def counted(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in graph_of(path).node)


# What is stored, and what is computed with it


def test_products_are_of_integers_and_share_what_they_read(graphs: dict[Precision, Path]) -> None:
    matrices, parts = 7 * SMALL.layers + 1, 3
    # A layer reads four: the normed stream (query, key, value), attention, the normed stream again, and the gated unit;
    # the head reads two.
    reads = 4 * SMALL.layers + 2
    for precision, kinds in ((INT8, (0, reads)), (PER_TENSOR, (reads, 0))):
        counts = counted(graphs[precision])
        assert counts["MatMulInteger"] == matrices + parts
        assert counts["MatMul"] == counts["Gemm"] == 0
        assert (counts["DynamicQuantizeLinear"], counts["QuantizeLinear"]) == kinds
    for precision in (Precision.FLOAT32, Precision.FLOAT16):
        counts = counted(graphs[precision])
        assert (counts["MatMul"], counts["Gemm"], counts["MatMulInteger"]) == (matrices, parts, 0)


@pytest.mark.parametrize("precision", [INT8, PER_TENSOR])
def test_onnx_runtime_fuses_each_product_with_its_scales(
    graphs: dict[Precision, Path], tmp_path: Path, precision: Precision
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that what it writes is for this machine alone
    onnxruntime.InferenceSession(graphs[precision], options, providers=["CPUExecutionProvider"])
    counts = counted(tmp_path / "optimized.onnx")
    assert counts["MatMulInteger"] == 0
    assert counts["MatMulIntegerToFloat"] + counts["DynamicQuantizeMatMul"] == 7 * SMALL.layers + 1 + 3


def test_a_graph_shares_the_weights_of_another(graphs: dict[Precision, Path], tensors: Tensors, tmp_path: Path) -> None:
    source, one, other = source_of(SMALL, tensors), tmp_path / "one.onnx", tmp_path / "other.onnx"
    write_denoiser(source, one, all_in(PER_TENSOR), {"is": "one"})
    before = (tmp_path / "one.onnx.data").read_bytes()
    write_sharing(source, other, all_in(INT8), {"is": "other"}, one)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "one.onnx.data", "other.onnx"]
    assert (tmp_path / "one.onnx.data").read_bytes() == before
    assert places(graph_of(one)) == places(graph_of(other))
    found, expected = Running(other)(IDS), Running(graphs[INT8])(IDS)
    np.testing.assert_array_equal(found["logits"], expected["logits"])


# The arithmetic


def test_quantized_by_hand() -> None:
    q, scales = quantized(np.array([[127.0, 0.0, -0.5], [-63.6, 0.0, 0.25]], np.float32).T)
    assert q.dtype == np.int8
    assert q.T.tolist() == [[127, 0, -127], [-64, 0, 64]]
    np.testing.assert_array_equal(scales, np.array([1, 1, np.float32(0.5) / np.float32(127)], np.float32))


def test_what_is_quantized_comes_back_within_half_a_step() -> None:
    matrix = np.random.default_rng(4).normal(size=(40, 30)).astype(np.float32)
    q, scales = quantized(matrix)
    assert (np.abs(q * scales[:, None] - matrix) <= scales[:, None] * 0.5001).all()
    assert (np.abs(q).max(axis=1) == 127).all()


@pytest.mark.parametrize("least", [2e-36, 2e-43, 2e-45])
def test_numbers_too_small_for_a_scale_leave_int8_nowhere(least: float) -> None:
    """2e-43 is 143 times what float32 makes of 2e-43 / 127, its smallest number."""
    q, scales = quantized(np.full((1, 2), least, np.float32))
    assert (q >= 0).all()
    np.testing.assert_allclose(q * scales, least, rtol=1e-6, atol=1e-42)


WIDTH = replace(SMALL, hidden_size=16, vocab_size=30)


@pytest.fixture(scope="module")
def weights() -> Tensors:
    """A matrix [3, 16] with a row of nothing, a table [30, 16], and a bias [30]."""
    random = np.random.default_rng(3)
    sizes = {"m.weight": (3, 16), TABLE: (30, 16), BIAS: (30,)}
    tensors = {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    tensors["m.weight"][1] = 0
    return tensors


class Products(nn.Module):
    """A product, the table's embedding, and the logits of its only part."""

    def __init__(self, precision: Precision) -> None:
        super().__init__("")
        self.precision = precision
        self.m, self.table = Product("m", 16, 3, precision=precision), Table(WIDTH, Columns(30, None), precision)

    def forward(self, op: Any, x: ir.Value, ids: ir.Value) -> tuple[ir.Value, ...]:
        given = operand(op, x, self.precision, Rounding.of(op, zero_point(op), op.Shape(x, end=1), "n"))
        [part] = self.table.parts
        return self.m(op, given).applied(op), self.table(op, ids), part(op, given)


def products(weights: Tensors, folder: Path, precision: Precision) -> Callable[..., list[NDArray[Any]]]:
    """Return a function of x [n, 16] and ids that returns the product, the embedding and the logits."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23}, name="products")
    builder, module = GraphBuilder(graph), Products(precision)
    results = module(builder.op, builder.input("x", FLOAT, ["n", 16]), builder.input("ids", INT64, ["i"]))
    for name, value in zip(("product", "embedded", "logits"), results, strict=True):
        builder.add_output(value, name)
    with WeightsFile(folder / "products.onnx.data") as file:
        for each in (module.m, module.table):
            each.store(MemoryWeights(weights), file)
    ir.save(ir.Model(graph, ir_version=10), folder / "products.onnx")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # products that cannot saturate anywhere
    session = onnxruntime.InferenceSession(folder / "products.onnx", options, providers=["CPUExecutionProvider"])

    def run(x: NDArray[np.float32], ids: Sequence[int] = (0,)) -> list[NDArray[Any]]:
        product, embedded, logits = session.run(None, {"x": x, "ids": np.array(ids)})
        return [product, embedded, logits[:, :30]]

    return run


def per_tensor(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """DynamicQuantizeLinear's q - z, and its scale; the standard's words."""
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero).astype(np.int64), scale


def per_token(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """q and the scale of each row; 1 for a row of nothing."""
    scale = np.abs(x).max(axis=1, keepdims=True) * np.float32(1 / 127)
    scale[scale == 0] = 1
    return np.rint(x / scale).astype(np.int64), scale


@pytest.mark.parametrize(("precision", "activations"), [(PER_TENSOR, per_tensor), (INT8, per_token)])
def test_products_are_what_numpy_makes_of_the_integers(
    weights: Tensors, tmp_path: Path, precision: Precision, activations: Any
) -> None:
    x = np.random.default_rng(5).normal(size=(6, 16)).astype(np.float32)
    x[2] = 0  # a row of nothing has no scale of its own
    product, embedded, logits = products(weights, tmp_path, precision)(x, [0, 29, 4])
    q, scale = activations(x)
    matrix, outputs = quantized(weights["m.weight"])
    table, rows = quantized(weights[TABLE])
    exact = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(product, (q @ matrix.T.astype(np.int64)) * (scale * outputs), **exact)
    np.testing.assert_allclose(logits, (q @ table.T.astype(np.int64)) * (scale * rows) + weights[BIAS], **exact)
    np.testing.assert_array_equal(embedded, (table * rows[:, None])[[0, 29, 4]])
    assert (product[:, 1] == 0).all()
    assert not product[2].any()


def test_half_precision_is_of_weights_and_activations(weights: Tensors, tmp_path: Path) -> None:
    x = np.random.default_rng(6).normal(size=(4, 16)).astype(np.float32)
    product, embedded, logits = products(weights, tmp_path, Precision.FLOAT16)(x, [7])
    rounded = half(x).astype(np.float64)
    exact = {"rtol": 2e-3, "atol": 4e-3}  # of sums in half precision, in any order
    np.testing.assert_allclose(product, rounded @ half(weights["m.weight"]).T.astype(np.float64), **exact)
    np.testing.assert_allclose(logits, rounded @ half(weights[TABLE]).T.astype(np.float64) + weights[BIAS], **exact)
    np.testing.assert_array_equal(embedded, half(weights[TABLE])[[7]].astype(np.float32))
    assert product.dtype == embedded.dtype == logits.dtype == np.float32


def test_what_half_precision_cannot_hold_is_infinite() -> None:
    assert half(np.array([[65_504, 7e4, -1e30]], np.float32)).tolist() == [[65_504, np.inf, -np.inf]]


def test_an_outlier_harms_its_own_row_alone_per_token_and_all_per_tensor(weights: Tensors, tmp_path: Path) -> None:
    x = np.random.default_rng(6).normal(size=(8, 16)).astype(np.float32)
    loud = x.copy()
    loud[3] *= 1000
    others, found = np.arange(8) != 3, {}
    for precision in (INT8, PER_TENSOR):
        running = products(weights, tmp_path, precision)
        found[precision] = [running(each)[2][others] for each in (x, loud)]
    np.testing.assert_array_equal(*found[INT8])
    quiet, disturbed = found[PER_TENSOR]
    assert np.abs(disturbed - weights[BIAS]).max() < 0.5  # next to nothing is left of them
    assert np.abs(quiet - disturbed).max() > 1


# The whole network


def errors(tensors: Tensors, precisions: dict[str, Precision], folder: Path) -> tuple[float, float]:
    """How far a graph is from the reference in the same precisions, and that from float32; roots of mean squares.

    In half precision the CPU provider rounds weights alone.
    """
    found = Running(written(folder, tensors=tensors, precisions=precisions))(IDS)["logits"]
    halves = {f"{name}.weight" for name, precision in precisions.items() if precision is Precision.FLOAT16}
    rounded = {name: half(x).astype(np.float32) if name in halves else x for name, x in tensors.items()}
    integers = {name: INT8 for name, precision in precisions.items() if precision is INT8}
    asked = [Asked(IDS, np.arange(IDS.size))]
    same = Reference(MemoryWeights(rounded), SMALL, precisions=integers).logits(asked)
    plain = Reference(MemoryWeights(tensors), SMALL).logits(asked)
    return tuple(float(np.sqrt(np.square(other).mean())) for other in (found - same, same - plain))


@pytest.mark.parametrize("precision", [INT8, Precision.FLOAT16])
@pytest.mark.parametrize(
    "name", ["model.layers.0.attn.Wqkv", "model.layers.1.attn.Wo", "model.layers.1.mlp.Wo", "head.dense", TABLE_MATRIX]
)
def test_one_matrix_in_fewer_bits(tmp_path: Path, tensors: Tensors, name: str, precision: Precision) -> None:
    own, whole = errors(tensors, all_in(Precision.FLOAT32) | {name: precision}, tmp_path)
    assert own < whole / 5


@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_precisions(tmp_path: Path, tensors: Tensors, seed: int) -> None:
    """Roundings that the last bits of float32 tip are what the graph and the reference differ by."""
    random, kinds = np.random.default_rng(seed), [Precision.FLOAT32, Precision.FLOAT16, INT8]
    own, whole = errors(tensors, {name: kinds[random.integers(3)] for name in matrix_names(SMALL)}, tmp_path)
    assert own < whole / 2


def test_one_scale_a_pass_may_be_mixed_with_all_others(tmp_path: Path, tensors: Tensors, run) -> None:
    kinds = list(Precision)
    precisions = {name: kinds[i % 4] for i, name in enumerate(matrix_names(SMALL))}
    found = Running(written(tmp_path, tensors=tensors, precisions=precisions))(IDS)["logits"]
    single, all_of_it = (run[precision](IDS)["logits"] for precision in (Precision.FLOAT32, PER_TENSOR))
    assert 0 < np.abs(found - single).mean() < 2 * np.abs(all_of_it - single).mean()


# Which rows change which. Integers add up to the same in any order. What is left are attention's float32 sums, and ONNX
# Runtime adds those of a query in the order of its keys, in blocks that begin with the first: keys behind them that are
# masked add 0. So nothing changes as long as keys keep their places: those of the pass first, then those of the past.

LENGTHS = (24, 40, 7, 33, 1, 2, 16, 40, 39, 25, 31, 8, 12, 20, 37, 5)
BATCH = [np.random.default_rng(30 + i).integers(0, SMALL.vocab_size, length) for i, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=["int8", "int8, faint masks", "float32"])
def invariant(request: pytest.FixtureRequest, tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Running:
    precision = Precision.FLOAT32 if request.param == "float32" else INT8
    masked = {"masked": FAINT} if "faint" in request.param else {}
    return Running(written(tmp_path_factory.mktemp("graph"), tensors=tensors, precisions=all_in(precision), **masked))


def padded(batch: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sequences as tokens and positions [batch, longest]."""
    longest = max(map(len, batch))
    ids = np.stack([np.pad(row, (0, longest - len(row)), constant_values=7) for row in batch])
    return ids, np.stack([np.where(np.arange(longest) < len(row), np.arange(longest), -1) for row in batch])


def check_same(found: dict[str, Any], at: slice, alone: dict[str, Any]) -> None:
    """Of an entropy, the last bit depends on its place: ONNX Runtime takes the logarithms of a few at a time."""
    for name in ("top_ids", "top_logits", "rest", "rest_tempered", "logits", "target_logits"):
        np.testing.assert_array_equal(found[name][at], alone[name], err_msg=name)
    np.testing.assert_allclose(found["entropy"][at], alone["entropy"], rtol=1e-6)


def test_sixteen_sequences_in_one_pass_are_each_as_alone_to_the_bit(invariant: Running) -> None:
    """But one of a single token, whose only query is added up in another way."""
    (ids, positions), random = padded(BATCH), np.random.default_rng(0)
    rows = [np.sort(random.permutation(length)[: 1 + i % 9]) for i, length in enumerate(LENGTHS)]
    temperature, penalty, end = np.linspace(0.1, 1.5, 16), np.linspace(0.8, 1.6, 16), 0
    seen = [np.unique(sequence) for sequence in BATCH]
    longest = max(map(len, seen))
    found = invariant(
        *(ids, positions, np.concatenate([40 * i + row for i, row in enumerate(rows)])),
        temperature=temperature,
        repetition_penalty=penalty,
        seen_ids=np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in seen]),
    )
    for i, (sequence, row) in enumerate(zip(BATCH, rows, strict=True)):
        first, end = end, end + row.size
        if len(sequence) > 1:
            own = {"temperature": temperature[i : i + 1], "repetition_penalty": penalty[i : i + 1]}
            alone = invariant(sequence, rows=row, seen_ids=seen[i][None], **own)
            check_same(found, slice(first, end), alone)


def test_a_row_alone_is_as_among_others_to_the_bit(invariant: Running) -> None:
    among = invariant(IDS)
    for row in range(0, 40, 3):
        check_same(among, slice(row, row + 1), invariant(IDS, rows=[row]))


def test_cached_passes_of_as_many_tokens_are_each_as_alone_to_the_bit(invariant: Running) -> None:
    """However long their pasts are."""
    batch = [sequence for sequence in BATCH if len(sequence) >= 16]
    (ids, positions), block, rows = padded(batch), np.arange(6, 15), np.array([0, 3, 8])
    full, places = invariant(ids, positions, []), np.arange(40)
    past = np.where(np.isin(positions, block), -1, positions)
    found = invariant(
        *(ids[:, block], positions[:, block], np.concatenate([9 * i + rows for i in range(len(batch))])),
        **{"past_position_ids": past, **invariant.past(full, places)},
    )
    for i, sequence in enumerate(batch):
        places, alone = np.arange(len(sequence)), invariant(sequence, rows=[])
        single = invariant(
            *(sequence[block], block, rows),
            **{"past_position_ids": past[i : i + 1, places], **invariant.past(alone, places)},
        )
        check_same(found, slice(3 * i, 3 * i + 3), single)


def test_with_one_scale_a_pass_all_rows_depend_on_all_others(run: dict[Precision, Running]) -> None:
    """Which is why such a variant is not batch-invariant."""
    ids, positions = padded(BATCH)
    found = run[PER_TENSOR](ids, positions, np.arange(24))["logits"]
    alone = run[PER_TENSOR](BATCH[0])["logits"]
    assert (np.abs(found - alone).max(axis=1) > 0.01).mean() > 0.9
