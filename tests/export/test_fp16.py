"""Half precision: what is judged, and where it overflows; and that the reference in 8 bits is the graph in 8 bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check import verify
from diffutron_ort_export.check.canvases import canvases
from diffutron_ort_export.check.fidelity import Fp32Baseline, logits_of
from diffutron_ort_export.check.reference import Reference
from diffutron_ort_export.check.session import GraphForward, GraphSession
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.precision import Precision, Precisions, matrix_names
from diffutron_ort_export.variants import Job, Options, write_fp16
from tests.export.conftest import TINY
from tests.export.rewriting import Tensors, altered, graph_of


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes a job of a source."""
    return lambda source, **options: Job(
        "fp16", tmp_path / "denoiser.onnx", {}, Fp32Baseline(source), Options(**options)
    )


def everywhere(source: Source, precision: Precision) -> Precisions:
    return dict.fromkeys(matrix_names(source.shape), precision)


NAMES = ["model.layers.3.attn.Wqkv", "model.layers.5.mlp.Wi", "head.dense", "model.embeddings.tok_embeddings", None]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_in_8_bits_is_the_graph_in_8_bits(source: Source, tmp_path: Path, name: str | None) -> None:
    """Apart from roundings that the last bits of float32 tip: where one matrix alone is in 8 bits, these are few."""
    eight = everywhere(source, Precision.INT8)
    precisions = eight if name is None else everywhere(source, Precision.FLOAT32) | {name: Precision.INT8}
    write_denoiser(source, tmp_path / "denoiser.onnx", precisions, {})
    canvas = canvases(source)[6]
    found = logits_of(GraphForward(GraphSession(tmp_path / "denoiser.onnx", source.shape)), canvas)
    ours, single = (Reference(source.weights, source.shape, precisions=p) for p in (precisions, {}))
    own, whole = (np.sqrt(np.square(reference.logits([canvas.asked]) - found).mean()) for reference in (ours, single))
    assert own < whole / (2 if name is None else 10)


def test_half_precision_halves_the_matrices_and_keeps_the_contract(source: Source, job) -> None:
    made = job(source)
    card = write_fp16(made)
    graph = graph_of(made.path)
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert single in {value.type.tensor_type.elem_type for value in graph.input}
    assert half not in {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    matrices = [i for i in graph.initializer if i.name.endswith(".weight") and len(i.dims) == 2]
    assert {i.data_type for i in matrices} == {half}
    assert card["agreement"] >= 0.99
    assert card["graph_on_cpu"]["top1_agreement"] > 0.97
    assert 0 < card["graph_on_cpu"]["kl"] < card["kl"] < 1e-4  # its products are not rounded
    assert card["trajectories"]["count"] == 4
    assert card["trajectories"]["same_tokens"] > 0.95


def overflowing(tensors: Tensors) -> None:
    """The same function with values that are beyond 65,504 in layer 2; the weights themselves are not."""
    tensors["model.layers.2.attn.Wqkv.weight"][128:] *= 5e4
    tensors["model.layers.2.attn.Wo.weight"] /= 5e4
    assert np.abs(tensors["model.layers.2.attn.Wqkv.weight"]).max() < 65_504


@pytest.mark.parametrize("accept", [False, True])
def test_a_product_that_overflows_is_named_and_cannot_be_accepted(source: Source, job, accept: bool) -> None:
    loud = altered(source, overflowing)
    with pytest.raises(
        FidelityError,
        match=r"variant fp16: the product with model\.layers\.2\.attn\.Wqkv overflows .*65,504.*; choose fp32, int8",
    ):
        write_fp16(job(loud, accept=accept))


def heavy(tensors: Tensors) -> None:
    tensors["model.layers.4.mlp.Wo.weight"][0, 0] = 7e4


def test_a_weight_that_overflows_is_named(source: Source, job) -> None:
    with pytest.raises(FidelityError, match=r"the product with model\.layers\.4\.mlp\.Wo overflows"):
        write_fp16(job(altered(source, heavy)))


def test_the_float32_graph_of_the_same_weights_is_exact(source: Source, tmp_path: Path) -> None:
    """What overflows half precision is no fault of the checkpoint."""
    loud = altered(source, overflowing)
    write_denoiser(loud, tmp_path / "denoiser.onnx", everywhere(loud, Precision.FLOAT32), {})
    session = GraphSession(tmp_path / "denoiser.onnx", loud.shape)
    assert verify.verify_exact(Reference(loud.weights, loud.shape), session, "fp32")["top1_agreement"] == 1
