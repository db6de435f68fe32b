"""The denoiser's graph against numpy at float64, and the reference's logits; and what its files hold."""

import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from diffutron_ort.runtime.graph_guard import DENOISER
from diffutron_ort_export.checkpoint.adapter import merge_adapter
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE, tensor_shapes
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS
from diffutron_ort_export.graph import vocabulary
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.masking import CERTAIN, FAINT, SAFE_EXCESS, masked_score
from diffutron_ort_export.graph.precision import Precision
from diffutron_ort_export.graph.weights_file import ALIGNMENT
from tests.export.conftest import TINY
from tests.export.networks import (
    SMALL,
    Running,
    all_in,
    check_row,
    network,
    random_tensors,
    reduced,
    source_of,
    written,
)
from tests.export.rewriting import MemoryWeights, Tensors, graph_of, places

LOGITS = np.load(TINY / "logits.npz")
GOLDEN = 3e-5
"""The most by which a logit may differ from the reference's, in standard deviations. The reference's own, at float32,
are 2e-5 from those at float64."""

EXACT = {"rtol": 0, "atol": 2e-4}
"""What float32 may make of logits of small networks, whose standard deviation is 6."""

SAME = {"rtol": 0, "atol": 1e-4}
"""The same sums in another order."""

IDS = np.random.default_rng(11).integers(0, SMALL.vocab_size, 40)
KEPT = sorted({SPECIAL_IDS["mask"], *range(5, 140, 2)})


@pytest.fixture(scope="session")
def tensors() -> Tensors:
    return random_tensors()


@pytest.fixture(scope="session")
def small(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a small network, whose vocabulary has three parts that do not divide it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "PART", 50)
        return written(tmp_path_factory.mktemp("small"), tensors=tensors)


@pytest.fixture(scope="session")
def run(small: Path) -> Running:
    return Running(small)


@pytest.fixture(scope="session")
def expected(tensors: Tensors) -> np.ndarray:
    """The logits of `IDS`."""
    return network(tensors, SMALL, IDS)


@pytest.fixture(scope="session")
def tiny() -> Source:
    return open_source(str(TINY / "checkpoint"))


def exported(source: Source, folder: Path, precision: Precision = Precision.FLOAT32) -> Running:
    """A checkpoint's graph, without the bundle around it."""
    path = folder / "denoiser.onnx"
    write_denoiser(source, path, all_in(precision, source.shape), {})
    return Running(path, source.shape)


@pytest.fixture(scope="session")
def run_tiny(tiny: Source, tmp_path_factory: pytest.TempPathFactory) -> Running:
    return exported(tiny, tmp_path_factory.mktemp("tiny"))


# The reference's logits


def check_golden(found: np.ndarray, expected: np.ndarray) -> None:
    difference, spread = np.abs(found - expected), expected.std()
    assert difference.max() <= GOLDEN * spread
    assert np.sqrt(np.square(difference).mean()) <= GOLDEN / 6 * spread
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("case", range(5))
def test_golden_logits(run_tiny: Running, case: int) -> None:
    check_golden(run_tiny(LOGITS[f"ids_{case}"])["logits"], LOGITS[f"logits_{case}"])


def test_golden_padded_batch(run_tiny: Running) -> None:
    ids, valid = LOGITS["batch_ids"], LOGITS["batch_mask"] == 1
    rows = np.flatnonzero(valid)
    found = run_tiny(ids, np.where(valid, np.arange(ids.shape[1]), -1), rows)["logits"]
    check_golden(found, LOGITS["batch_logits"].reshape(-1, found.shape[1])[rows])


def test_golden_adapter_logits(tiny: Source, tmp_path: Path) -> None:
    golden, weights = np.load(TINY / "adapter_logits.npz"), merge_adapter(tiny.weights, TINY / "adapter")
    found = exported(replace(tiny, weights=weights), tmp_path)(golden["ids"])["logits"]
    check_golden(found, golden["logits"])


# Networks of every kind


@pytest.mark.parametrize(
    "changes",
    [
        {"every": 1},  # all layers are global
        {"every": 2, "layers": 3},  # the last one is
        {"every": 3, "layers": 4, "window": 4},
        {"global_theta": 10_000.0},  # one rotation for all layers
        {"global_theta": 1.0, "local_theta": 1e12},
        {"layers": 1, "heads": 4},
        {"vocab_size": 17, "window": 1},
        {"norm_eps": 0.3, "intermediate_size": 20},
    ],
    ids=str,
)
def test_any_shape_is_what_it_is_at_float64(tmp_path: Path, changes: dict[str, Any]) -> None:
    shape = replace(SMALL, **changes)
    ids, tensors = IDS % shape.vocab_size, random_tensors(shape, seed=1)
    found = Running(written(tmp_path, shape, tensors=tensors), shape)(ids)
    np.testing.assert_allclose(found["logits"], network(tensors, shape, ids), **EXACT)
    assert found["top_ids"].shape == (40, min(64, shape.vocab_size))
    for row in (0, 39):
        check_row(found, row, reduced(found["logits"][row], np.arange(shape.vocab_size)))


@pytest.mark.parametrize("masked", [CERTAIN, FAINT])
@pytest.mark.parametrize("length", [1, 9, 40])
def test_any_length_is_what_it_is_at_float64(tmp_path: Path, tensors: Tensors, masked: float, length: int) -> None:
    found = Running(written(tmp_path, tensors=tensors, masked=masked))(IDS[:length])
    np.testing.assert_allclose(found["logits"], network(tensors, SMALL, IDS[:length]), **EXACT)


# Rows


def test_a_row_alone_equals_the_row_among_others(run: Running, expected: np.ndarray) -> None:
    among = run(IDS)
    np.testing.assert_allclose(among["logits"], expected, **EXACT)
    for row in (0, 7, 39):
        alone = run(IDS, rows=[row])
        np.testing.assert_allclose(alone["logits"][0], among["logits"][row], **SAME)
        assert alone["top_ids"][0, 0] == among["top_ids"][row, 0]


def test_rows_come_in_the_order_asked_for_and_may_repeat(run: Running, expected: np.ndarray) -> None:
    np.testing.assert_allclose(run(IDS, rows=[4, 0, 4])["logits"], expected[[4, 0, 4]], **EXACT)


def test_no_rows_at_all(run: Running) -> None:
    found, full = run(IDS, rows=[], target_ids=np.zeros((0, 3))), run(IDS)
    assert found["top_ids"].shape == found["top_logits"].shape == (0, 64)
    assert found["logits"].shape == (0, 150)
    assert found["target_logits"].shape == (0, 3)
    assert found["rest"].shape == found["rest_tempered"].shape == found["entropy"].shape == (0,)
    for name in ("key.0", "value.0", "key.1", "value.1"):
        np.testing.assert_array_equal(found[name], full[name])


@pytest.mark.parametrize("n", [0, 3])
def test_logits_and_entropy_that_are_not_wanted(run: Running, n: int) -> None:
    rows, wanted = np.arange(n), run(IDS, rows=np.arange(n))
    found = run(IDS, rows=rows, want_logits=False, want_entropy=False)
    assert found["logits"].shape == (0, 150)
    assert found["entropy"].shape == (n,)
    for name in set(run.names) - {"logits", "entropy"}:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


# Sequences


def test_padding_is_not_seen(run: Running, expected: np.ndarray) -> None:
    """Wherever it stands, and whatever token it is."""
    places = np.arange(40) + np.arange(40) // 4  # a column of padding before every fourth token
    ids, positions = np.full((1, 60), 77), np.full((1, 60), -1)
    ids[0, places + 1], positions[0, places + 1] = IDS, np.arange(40)
    np.testing.assert_allclose(run(ids, positions, places + 1)["logits"], expected, **EXACT)


def test_a_sequence_of_padding_alone_harms_nobody(run: Running, expected: np.ndarray) -> None:
    positions = np.stack([np.full(40, -1), np.arange(40)])
    found = run(np.stack([IDS, IDS]), positions, [3, 40 + 3])
    np.testing.assert_allclose(found["logits"][1], expected[3], **EXACT)
    assert all(np.isfinite(value).all() for value in found.values())


def test_tokens_may_stand_in_any_order_with_gaps_between_their_places(run: Running, tensors: Tensors) -> None:
    positions = np.sort(np.random.default_rng(1).choice(90, 40, replace=False))
    order = np.random.default_rng(2).permutation(40)
    found = run(IDS[order], positions[order])["logits"]
    np.testing.assert_allclose(found, network(tensors, SMALL, IDS, positions)[order], **EXACT)


def test_sequences_of_a_batch_equal_each_alone(run: Running, tensors: Tensors) -> None:
    lengths, ids = (40, 3, 17), np.stack([np.roll(IDS, shift) for shift in (0, 5, 9)])
    positions = np.where(np.arange(40) < np.array(lengths)[:, None], np.arange(40), -1)
    rows = np.flatnonzero(positions >= 0)
    found = run(ids, positions, rows[::-1])
    alone = [network(tensors, SMALL, row[:length]) for row, length in zip(ids, lengths, strict=True)]
    np.testing.assert_allclose(found["logits"], np.concatenate(alone)[::-1], **EXACT)


def test_what_is_asked_of_a_sequence_is_asked_of_its_rows(run: Running) -> None:
    """Penalty, temperature, seen and suppressed ids, all at once; targets are of a row."""
    options = {
        "seen_ids": [[3, 9, 140, 140, 140], [0, 1, 2, 9, 11], [5, 5, 5, 5, 5]],
        "suppress_ids": [[9, 20, 20], [33, 34, 35], [140, 140, 140]],
        "repetition_penalty": [1.3, 0.6, 1.0],
        "temperature": [0.1, 1.0, 3.0],
    }
    rows, targets = np.array([2, 39, 41, 80, 82, 119]), np.random.default_rng(3).integers(0, 150, (6, 4))
    found = run(np.stack([IDS, IDS[::-1], np.roll(IDS, 3)]), rows=rows, target_ids=targets, **options)
    np.testing.assert_array_equal(found["target_logits"], np.take_along_axis(found["logits"], targets, 1))
    for i, row in enumerate(rows):
        seen, suppressed, penalty, temperature = (value[row // 40] for value in options.values())
        said = reduced(found["logits"][i], np.arange(150), seen, suppressed, penalty, temperature)
        check_row(found, i, said, temperature)


def test_an_output_vocabulary(tmp_path: Path, tensors: Tensors, expected: np.ndarray) -> None:
    """The embedding has all tokens, the predictions some; others that are named change nothing."""
    run = Running(written(tmp_path, tensors=tensors, kept=KEPT))
    options = {"seen_ids": [[0, 5, 6, 139]], "suppress_ids": [[7, 8, 7]], "repetition_penalty": [1.7]}
    found = run(IDS, target_ids=np.tile([4, 5, 6, 7], (40, 1)), **options)
    np.testing.assert_allclose(found["logits"], expected[:, KEPT], **EXACT)
    targets = np.where([True, True, False, True], expected[:, [4, 5, 6, 7]], -np.inf)
    np.testing.assert_allclose(found["target_logits"], targets, **EXACT)
    for row in range(40):
        said = reduced(found["logits"][row], np.array(KEPT), *options["seen_ids"], *options["suppress_ids"], 1.7)
        check_row(found, row, said)


# The cache


@pytest.mark.parametrize("block", [slice(0, 1), slice(8, 24), slice(30, 40), slice(1, 40)])
def test_a_cached_pass_equals_the_full_pass(run: Running, block: slice) -> None:
    full, others = run(IDS), np.setdiff1d(np.arange(40), np.arange(40)[block])
    found = run(IDS[block], np.arange(40)[block], past_position_ids=others[None], **run.past(full, others))
    np.testing.assert_allclose(found["logits"], full["logits"][block], **SAME)
    for name in ("key.0", "value.0", "key.1", "value.1"):
        np.testing.assert_allclose(found[name], full[name][:, block], atol=1e-5)


def test_a_past_in_any_order_with_the_recomputed_places_struck_out(run: Running) -> None:
    full, order, block = run(IDS), np.random.default_rng(0).permutation(40), np.arange(10, 20)
    past = np.where(np.isin(order, block), -1, order)
    found = run(IDS[block], block, past_position_ids=past[None], **run.past(full, order))
    np.testing.assert_allclose(found["logits"], full["logits"][block], **SAME)


def test_a_past_with_gaps_between_its_places(run: Running, tensors: Tensors) -> None:
    positions = np.sort(np.random.default_rng(4).choice(90, 40, replace=False))
    full, block = run(IDS, positions), np.arange(12, 30)
    past = np.where(np.isin(np.arange(40), block), -1, positions)
    found = run(IDS[block], positions[block], past_position_ids=past[None], **run.past(full, np.arange(40)))
    np.testing.assert_allclose(found["logits"], network(tensors, SMALL, IDS, positions)[block], **EXACT)


def test_the_past_of_sequences_of_several_lengths(run: Running, tensors: Tensors) -> None:
    ids, lengths, rows = np.stack([IDS, np.roll(IDS, 7)]), np.array([[40], [29]]), [3, 12 + 5]
    positions = np.where(np.arange(40) < lengths, np.arange(40), -1)
    full = run(ids, positions, [])
    past = np.where(np.arange(40) < 16, -1, positions)
    found = run(ids[:, 4:16], positions[:, 4:16], rows, past_position_ids=past, **run.past(full, np.arange(40)))
    without = np.r_[4:40]  # the first four are in neither
    alone = [
        network(tensors, SMALL, row[without[: length - 4]], without[: length - 4])
        for row, [length] in zip(ids, lengths, strict=True)
    ]
    np.testing.assert_allclose(found["logits"], [alone[0][3], alone[1][5]], **EXACT)


def test_a_past_of_nothing_is_none(run: Running) -> None:
    """Keys and values at position -1 may hold anything."""
    noise = np.random.default_rng(5).normal(size=(1, 6, 32))
    past = dict.fromkeys(run.past(run(IDS), [0]), noise)
    found = run(IDS, past_position_ids=[[-1] * 6], **past)["logits"]
    np.testing.assert_allclose(found, run(IDS)["logits"], **SAME)


# What is added to masked scores


@pytest.mark.parametrize(
    ("excess", "score"), [(-5, FAINT), (SAFE_EXCESS, FAINT), (20.1, CERTAIN), (1e30, CERTAIN), (np.nan, CERTAIN)]
)
def test_masked_scores_are_faint_where_that_is_safe(excess: float, score: float) -> None:
    assert masked_score(excess) == score


def test_what_is_faint_leaves_nothing_of_what_is_safe() -> None:
    """In a row whose only visible score is 0, at the most excess that is allowed, and at that of the next token on."""
    assert np.float32(1) + np.exp(np.float32(SAFE_EXCESS + FAINT)) * 2**14 == 1
    assert np.exp(np.float32(FAINT - 20)) >= np.finfo(np.float32).tiny


def test_masked_scores_that_are_far_above_all_others_count_for_nothing(tmp_path: Path, tensors: Tensors) -> None:
    """Scores of a hundred and more, which are masked by the local layer's window."""
    loud = tensors | {"model.layers.1.attn.Wqkv.weight": tensors["model.layers.1.attn.Wqkv.weight"].copy()}
    loud["model.layers.1.attn.Wqkv.weight"][:64] *= 6
    certain = Running(written(tmp_path, tensors=loud))(IDS)["logits"]
    np.testing.assert_allclose(certain, network(loud, SMALL, IDS), rtol=0, atol=2e-3)
    faint = Running(written(tmp_path, tensors=loud, masked=FAINT))(IDS)["logits"]
    assert np.abs(faint - certain).max() > 0.1  # so that there was something to mask


# The files


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("kept", [None, KEPT])
def test_standard_operators_alone_that_the_runtime_allows(
    tmp_path: Path, precision: Precision, kept: list[int] | None
) -> None:
    path = written(tmp_path, precisions=all_in(precision), kept=kept)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in nodes(model.graph)} == {""}
    assert {node.op_type.encode() for node in nodes(model.graph)} <= DENOISER.operators
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    assert model.ir_version == 10
    assert not model.functions


def test_operators(tmp_path: Path, tiny: Source) -> None:
    """The standard operators and little else: without them the same network is hundreds of Slice, Concat and Where."""
    write_denoiser(tiny, tmp_path / "denoiser.onnx", all_in(Precision.FLOAT32, tiny.shape), {})
    graph = graph_of(tmp_path / "denoiser.onnx")
    layers, counts = 7, Counter(node.op_type for node in graph.node)
    assert counts["If"] == layers + 3  # with a past or without; tempered sums, entropy and logits
    assert Counter(node.op_type for node in nodes(graph))["Attention"] == 2 * layers
    assert counts["RotaryEmbedding"] == 2 * layers
    assert counts["LayerNormalization"] == 2 * layers + 2  # embedding, layers without the first's, final and head
    assert counts["MatMul"] == 7 * layers + 1  # query, key, value, output, two into the gated unit and one out of it
    assert counts["Gemm"] == 1  # the head, which reads the table as it lies there
    assert counts["Transpose"] == counts["Split"] == 0
    assert len(list(nodes(graph))) < 500


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(("kept", "rows", "padded"), [(None, 192, 192), (KEPT, 150, 128)])
def test_every_weight_is_stored_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    kept: list[int] | None,
    rows: int,
    padded: int,
) -> None:
    monkeypatch.setattr(vocabulary, "PART", 50)
    path = written(tmp_path, precisions=all_in(precision), kept=kept)
    sizes = {name: size for name, size in tensor_shapes(SMALL).items() if name != BIAS} | {TABLE: (rows, 32)}
    matrices, vectors = ([size for size in sizes.values() if len(size) == axes] for axes in (2, 1))
    each = {Precision.FLOAT32: 4, Precision.FLOAT16: 2}.get(precision, 1)
    expected = each * sum(map(math.prod, matrices)) + 4 * (sum(map(math.prod, vectors)) + padded)
    if each == 1:
        expected += 4 * sum(size[0] for size in matrices)  # a scale for each row
    stored = places(graph_of(path))
    spans = sorted(span for name, span in stored.items() if not is_view(name))
    assert all(end <= first for (_, end), (first, _) in pairwise(spans))
    assert sum(end - first for first, end in spans) + 4 * padded == expected
    assert expected <= Path(f"{path}.data").stat().st_size < expected + ALIGNMENT * len(stored)


def is_view(name: str) -> bool:
    """Whether it is of a part of the head, which has the bytes of the table, or of the biases."""
    return re.match(r"head\.\d", name) is not None


@pytest.mark.parametrize("precision", Precision)
def test_the_parts_of_the_head_are_views_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    monkeypatch.setattr(vocabulary, "PART", 50)
    stored = places(graph_of(written(tmp_path, precisions=all_in(precision))))
    for kind in ("weight", "scale"):
        parts = [stored[f"head.{i}.{kind}"] for i in range(3) if f"head.{i}.{kind}" in stored]
        if parts:
            assert (parts[0][0], parts[-1][1]) == stored[f"embeddings.tok_embeddings.{kind}"]
            assert all(end == first for (_, end), (first, _) in pairwise(parts))
    assert any("scale" in name for name in stored) == (precision in (Precision.INT8, Precision.INT8_PER_TENSOR))


def test_weights_are_in_one_file_beside_the_graph(small: Path) -> None:
    outside = [i for i in graph_of(small).initializer if i.data_location == onnx.TensorProto.EXTERNAL]
    locations = {entry.value for i in outside for entry in i.external_data if entry.key == "location"}
    assert locations == {"denoiser.onnx.data"}
    assert sorted(path.name for path in small.parent.iterdir()) == ["denoiser.onnx", "denoiser.onnx.data"]


def test_a_graph_holds_no_weights(small: Path) -> None:
    inside = [i for i in graph_of(small).initializer if i.data_location != onnx.TensorProto.EXTERNAL]
    assert sum(len(i.raw_data) for i in inside) < 1000
    assert small.stat().st_size < 120_000


def test_a_graph_says_where_it_is_from_and_nothing_of_the_machine(tmp_path: Path, tensors: Tensors) -> None:
    path = tmp_path / "denoiser.onnx"
    write_denoiser(source_of(SMALL, tensors), path, all_in(Precision.FLOAT32), {"source": "x", "onnx": "1"})
    assert {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props} == {
        "source": "x",
        "onnx": "1",
    }
    content = path.read_bytes()
    for word in (b"site-packages", str(tmp_path).encode(), str(Path(__file__).parents[2]).encode()):
        assert word not in content


def test_onnx_runtime_finds_nothing_to_warn_of(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Running(small)(IDS)
    assert capfd.readouterr() == ("", "")


WRITE = """
import sys
from pathlib import Path
from diffutron_ort_export.graph.precision import Precision
from diffutron_ort_export.graph.weights_file import ALIGNMENT
from tests.export.networks import all_in, written
written(Path(sys.argv[1]), precisions=all_in(Precision.INT8), kept=[4, *range(20, 60)])
"""


def test_files_are_the_same_from_run_to_run(tmp_path: Path) -> None:
    for seed in ("0", "1"):
        (tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", WRITE, tmp_path / seed], env=environment, cwd=Path(__file__).parents[2], check=True
        )
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert names == ["denoiser.onnx", "denoiser.onnx.data"]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_weights_are_read_a_part_at_a_time(tmp_path: Path, tensors: Tensors) -> None:
    """No tensor of them is read whole but in what one product needs."""

    class Recording(MemoryWeights):
        most = 0

        def rows(self, name: str, first: int = 0, end: int | None = None) -> np.ndarray:
            found = super().rows(name, first, end)
            self.most = max(self.most, found.size)
            return found

    recording = Recording(tensors, 37)
    source = replace(source_of(SMALL, tensors), weights=recording)
    write_denoiser(source, tmp_path / "denoiser.onnx", all_in(Precision.INT8), {})
    assert recording.most == 48 * 32  # half of the gated unit's matrix
    assert tensors[TABLE].size > recording.most > tensors[BIAS].size
