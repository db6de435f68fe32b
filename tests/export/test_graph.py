"""The exported graph against the reference's logits, and against itself in other shapes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from diffutron_ort_export import export
from diffutron_ort_export.check.verify import GraphSession
from diffutron_ort_export.checkpoint.architecture import read_shape
from diffutron_ort_export.checkpoint.layout import tensor_shapes
from tests.export.conftest import TINY, Run, whole

LOGITS = np.load(TINY / "logits.npz")
GOLDEN_TOLERANCE = 1e-4
SAME = 5e-5
"""Float32 rounding of this checkpoint: the golden logits themselves are 3e-5 from the graph's."""


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> onnx.ModelProto:
    return onnx.load(tiny_bundle / "onnx" / "denoiser.onnx", load_external_data=False)


@pytest.mark.parametrize("case", range(5))
def test_golden_logits(run: Run, case: int) -> None:
    found = run(*whole(LOGITS[f"ids_{case}"]))["logits"]
    np.testing.assert_allclose(found, LOGITS[f"logits_{case}"], atol=GOLDEN_TOLERANCE, rtol=0)


def test_golden_padded_batch(run: Run) -> None:
    ids, valid = LOGITS["batch_ids"], LOGITS["batch_mask"] == 1
    positions = np.where(valid, np.arange(ids.shape[1]), -1)
    rows = np.flatnonzero(valid)
    found = run(ids, positions, rows)["logits"]
    expected = LOGITS["batch_logits"].reshape(-1, found.shape[1])[rows]
    np.testing.assert_allclose(found, expected, atol=GOLDEN_TOLERANCE, rtol=0)


def test_golden_adapter_logits(tmp_path: Path) -> None:
    export(TINY / "checkpoint", tmp_path / "out", adapter=TINY / "adapter")
    golden = np.load(TINY / "adapter_logits.npz")
    shape = read_shape(json.loads((tmp_path / "out" / "config.json").read_text()))
    found = GraphSession(tmp_path / "out" / "onnx" / "denoiser.onnx", shape).run(*whole(golden["ids"]))
    np.testing.assert_allclose(found["logits"], golden["logits"], atol=GOLDEN_TOLERANCE, rtol=0)
    assert json.loads((tmp_path / "out" / "diffutron.json").read_text())["source"]["adapter"] == "adapter"


def test_a_row_alone_equals_the_row_among_others(run: Run) -> None:
    ids, positions, rows = whole(LOGITS["ids_2"])
    among = run(ids, positions, rows)
    for row in (0, 7, 32):
        alone = run(ids, positions, np.array([row]))
        np.testing.assert_allclose(alone["logits"][0], among["logits"][row], atol=SAME)
        assert alone["top_ids"][0, 0] == among["top_ids"][row, 0]


def test_rows_come_in_the_order_asked_for_and_may_repeat(run: Run) -> None:
    ids, positions, _ = whole(LOGITS["ids_1"])
    found = run(ids, positions, np.array([4, 0, 4]))["logits"]
    np.testing.assert_allclose(found, LOGITS["logits_1"][[4, 0, 4]], atol=GOLDEN_TOLERANCE)


def test_a_sequence_of_a_batch_equals_the_sequence_alone(run: Run) -> None:
    short, long = LOGITS["ids_1"], LOGITS["ids_2"]
    ids = np.stack([np.pad(short, (0, long.size - short.size), constant_values=7), long])
    positions = np.stack([np.where(np.arange(long.size) < short.size, np.arange(long.size), -1), np.arange(long.size)])
    found = run(ids, positions, np.array([*range(short.size), *range(long.size, 2 * long.size)]))["logits"]
    expected = np.concatenate([LOGITS["logits_1"], LOGITS["logits_2"]])
    np.testing.assert_allclose(found, expected, atol=GOLDEN_TOLERANCE)


def test_no_rows_at_all(run: Run) -> None:
    ids, positions, rows = whole(LOGITS["ids_2"])
    found, full = run(ids, positions, rows[:0]), run(ids, positions, rows)
    assert found["top_ids"].shape == (0, 64)
    assert found["logits"].shape == (0, 512)
    assert found["rest"].shape == found["rest_tempered"].shape == found["entropy"].shape == (0,)
    np.testing.assert_array_equal(found["key"], full["key"])
    np.testing.assert_array_equal(found["value"], full["value"])


@pytest.mark.parametrize("block", [slice(0, 1), slice(8, 24), slice(25, 33), slice(1, 33)])
def test_cached_pass_equals_the_full_pass(run: Run, block: slice) -> None:
    ids, positions, rows = whole(LOGITS["ids_2"])
    full = run(ids, positions, rows)
    others = np.setdiff1d(rows, rows[block])
    found = run(
        ids[:, block],
        positions[:, block],
        np.arange(rows[block].size),
        past_position_ids=positions[:, others],
        past_key=full["key"][:, :, others],
        past_value=full["value"][:, :, others],
    )
    np.testing.assert_allclose(found["logits"], full["logits"][block], atol=SAME)
    np.testing.assert_allclose(found["key"], full["key"][:, :, block], atol=SAME)


def test_past_in_any_order_with_the_recomputed_places_struck_out(run: Run) -> None:
    ids, positions, rows = whole(LOGITS["ids_2"])
    full = run(ids, positions, rows)
    order, block = np.random.default_rng(0).permutation(rows.size), np.arange(10, 20)
    found = run(
        ids[:, block],
        positions[:, block],
        np.arange(block.size),
        past_position_ids=np.where(np.isin(order, block), -1, order)[None],
        past_key=full["key"][:, :, order],
        past_value=full["value"][:, :, order],
    )
    np.testing.assert_allclose(found["logits"], full["logits"][block], atol=SAME)


def test_cached_pass_of_a_batch(run: Run) -> None:
    ids = np.stack([LOGITS["ids_2"], LOGITS["ids_3"][:33]])
    positions, rows = np.tile(np.arange(33), (2, 1)), np.arange(66)
    full = run(ids, positions, rows)
    found = run(
        ids[:, 16:],
        positions[:, 16:],
        np.array([3, 17 + 5]),
        past_position_ids=positions[:, :16],
        past_key=full["key"][:, :, :16],
        past_value=full["value"][:, :, :16],
    )
    np.testing.assert_allclose(found["logits"], full["logits"][[16 + 3, 33 + 16 + 5]], atol=SAME)


def test_penalty_and_temperature_are_of_their_sequence(run: Run) -> None:
    ids = np.stack([LOGITS["ids_1"], LOGITS["ids_1"]])
    positions, rows = np.tile(np.arange(5), (2, 1)), np.array([2, 5 + 2])
    options = {"repetition_penalty": np.array([1, 2], np.float32), "temperature": np.array([1, 0.5], np.float32)}
    found = run(ids, positions, rows, seen_ids=np.tile(np.arange(512), (2, 1)), **options)
    raw, penalised = found["logits"][0], found["top_logits"][1]
    np.testing.assert_allclose(found["top_logits"][0], np.sort(raw)[::-1][:64], atol=SAME)
    np.testing.assert_allclose(penalised, np.sort(np.where(raw > 0, raw / 2, raw * 2))[::-1][:64], atol=SAME)
    np.testing.assert_allclose(found["rest"][0], found["rest_tempered"][0], rtol=1e-6)
    assert found["rest_tempered"][1] < found["rest"][1]


def test_signature(model: onnx.ModelProto) -> None:
    """DESIGN.md, "The denoiser graph": names, order, types, and names of dimensions."""
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}

    def described(value: onnx.ValueInfoProto) -> tuple[str, str, list[str | int]]:
        kind = value.type.tensor_type
        return value.name, kinds[kind.elem_type], [d.dim_param or d.dim_value for d in kind.shape.dim]

    assert [described(value) for value in model.graph.input] == [
        ("input_ids", "int64", ["batch", "seq"]),
        ("position_ids", "int64", ["batch", "seq"]),
        ("past_position_ids", "int64", ["batch", "past"]),
        ("past_key", "float32", [7, "batch", "past", 64]),
        ("past_value", "float32", [7, "batch", "past", 64]),
        ("rows", "int64", ["n"]),
        ("seen_ids", "int64", ["batch", "u"]),
        ("repetition_penalty", "float32", ["batch"]),
        ("temperature", "float32", ["batch"]),
    ]
    assert [described(value) for value in model.graph.output] == [
        ("top_ids", "int64", ["n", 64]),
        ("top_logits", "float32", ["n", 64]),
        ("rest", "float32", ["n"]),
        ("rest_tempered", "float32", ["n"]),
        ("entropy", "float32", ["n"]),
        ("logits", "float32", ["n", 512]),
        ("key", "float32", [7, "batch", "seq", 64]),
        ("value", "float32", [7, "batch", "seq", 64]),
    ]


def test_operators(model: onnx.ModelProto) -> None:
    """The standard operators and little else: without them the same network is hundreds of Slice, Concat and Where."""
    layers, counts = 7, Counter(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    assert counts["Attention"] == layers
    assert counts["RotaryEmbedding"] == 2 * layers
    assert counts["LayerNormalization"] == 2 * layers + 2  # embedding, layers without the first's, final and head
    assert counts["MatMul"] == 7 * layers + 1  # query, key, value, output, two into the gated unit and one out of it
    assert counts["Gemm"] == 1  # the head, which reads the table as it lies there
    assert counts["Transpose"] == 0
    assert counts["Split"] == 0
    assert counts["Softmax"] == 2  # the sums over the vocabulary
    assert len(model.graph.node) < 300


def test_every_weight_is_stored_once(tiny_bundle: Path, model: onnx.ModelProto) -> None:
    shape = read_shape(json.loads((tiny_bundle / "config.json").read_text()))
    parameters = sum(int(np.prod(size)) for size in tensor_shapes(shape).values())
    size = (tiny_bundle / "onnx" / "denoiser.onnx.data").stat().st_size
    small = 2 * 7 * shape.hidden_size + 2 * shape.hidden_size  # norms, which are kept in the graph itself
    assert 4 * (parameters - small) <= size <= 1.05 * 4 * parameters
    tables = [i.name for i in model.graph.initializer if sorted(i.dims) == [shape.hidden_size, shape.vocab_size]]
    assert tables == ["model.embeddings.tok_embeddings.weight"]


def test_weights_are_in_one_file_beside_the_graph(model: onnx.ModelProto) -> None:
    outside = [i for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]
    assert {entry.value for i in outside for entry in i.external_data if entry.key == "location"} == {
        "denoiser.onnx.data"
    }


def test_the_file_says_where_it_is_from_and_nothing_of_the_machine(tiny_bundle: Path, model: onnx.ModelProto) -> None:
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["source"] == "checkpoint"
    assert {"torch", "onnx", "transformers", "onnxruntime", "diffutron-ort"} <= notes.keys()
    content = (tiny_bundle / "onnx" / "denoiser.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(TINY).encode() not in content
