"""What torch makes of fewer bits: by hand, against the real 8-bit graph, and where half precision overflows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check import fidelity
from diffutron_ort_export.check.fidelity import Fp32Baseline, GraphForward, TorchForward, canvases, logits_of
from diffutron_ort_export.check.verify import GraphSession
from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.network import Decoder, Denoiser, Projection, build
from diffutron_ort_export.graph.onnx_graph import Graph
from diffutron_ort_export.graph.rewrite import matrix_of
from diffutron_ort_export.quantize.int8 import Scheme, quantize
from diffutron_ort_export.quantize.simulation import (
    Product,
    dequantized,
    fake_quantized,
    products,
    simulated_fp16,
    simulated_int8,
)
from diffutron_ort_export.variants import Job, Options, write_fp16
from tests.export.conftest import TINY
from tests.export.rewriting import Tensors, altered, graph_of, places, retold

SCHEMES = {"tensor": Scheme.PER_TENSOR, "row": Scheme.PER_TOKEN}


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


@pytest.fixture(scope="module")
def denoiser(source: Source) -> Denoiser:
    return build(source.shape, source.tensors)


def test_forms_by_hand() -> None:
    x = torch.tensor([[1.0, -0.5, 0.254], [100.0, 0.0, 0.3]])
    np.testing.assert_allclose(
        fake_quantized(x, Scheme.PER_TOKEN)[0], [1, -64 / 127, 32 / 127], rtol=1e-6
    )  # -63.5 goes to even
    np.testing.assert_allclose(fake_quantized(x, Scheme.PER_TOKEN)[1], [100, 0, 0])
    step = 100.5 / 255
    np.testing.assert_allclose(
        fake_quantized(x, Scheme.PER_TENSOR), [[3 * step, -step, step], [254 * step, 0, step]], rtol=1e-6
    )
    assert not fake_quantized(torch.zeros(2, 3), Scheme.PER_TOKEN).any()
    assert not fake_quantized(torch.zeros(2, 3), Scheme.PER_TENSOR).any()


def test_weights_by_hand() -> None:
    np.testing.assert_allclose(dequantized(torch.tensor([[127.0, 0], [-63.6, 0]]), 0), [[127, 0], [-64, 0]])


@pytest.fixture
def errors(source: Source, denoiser: Denoiser, tiny_bundle: Path, tmp_path: Path) -> Callable[..., tuple[float, float]]:
    """Return how far a simulation is from the real graph, and that from float32: roots of mean squares."""
    matrices = products(denoiser)

    def measure(schemes: dict[str, Scheme]) -> tuple[float, float]:
        graph, path = Graph(ir.load(tiny_bundle / "onnx" / "denoiser.onnx")), tmp_path / "denoiser_int8.onnx"
        quantize(graph, schemes)
        graph.save(path, {})
        real, plain, canvas = (
            GraphForward(GraphSession(path, source.shape)),
            TorchForward(denoiser),
            canvases(source)[6],
        )
        found, single = logits_of(real, canvas), logits_of(plain, canvas)
        with simulated_int8(matrices, schemes):
            simulated = logits_of(plain, canvas)
        np.testing.assert_array_equal(logits_of(plain, canvas), single)  # nothing is left of it
        own, whole = (float(np.sqrt(np.square(other - found).mean())) for other in (simulated, single))
        return own, whole

    return measure


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["model.layers.3.attn.Wqkv", "model.layers.5.mlp.Wo", "head.dense", matrix_of(TABLE)])
def test_one_matrix_is_simulated_as_the_graph_has_it(denoiser: Denoiser, errors, name: str, scheme: str) -> None:
    own, whole = errors(dict.fromkeys(products(denoiser), Scheme.FLOAT) | {name: SCHEMES[scheme]})
    assert own < whole / 10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_matrices_are_simulated_but_for_roundings_that_the_last_bits_of_float32_tip(
    denoiser: Denoiser, errors, scheme: str
) -> None:
    own, whole = errors(dict.fromkeys(products(denoiser), SCHEMES[scheme]))
    assert own < whole / 2


def test_an_output_vocabulary_is_rounded_too(source: Source) -> None:
    """Its head reads rows of the table through a parameter of its own."""
    kept = build(source.shape, source.tensors, list(range(0, 512, 2)))
    head, table = kept.head_table.clone(), source.tensors[TABLE][::2]
    with simulated_int8(products(kept), {}):
        np.testing.assert_array_equal(kept.head_table, dequantized(table, 1))
    with simulated_fp16(products(kept), "fp16"):
        np.testing.assert_array_equal(kept.head_table, table.half().float())
    assert torch.equal(kept.head_table, head)


# Half precision


@pytest.fixture
def job(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes a job of a source, whose graph needs no tracing."""
    monkeypatch.setattr(fidelity, "trace", retold(tiny_bundle / "onnx" / "denoiser.onnx"))
    return lambda source, **options: Job(
        "fp16", tmp_path / "denoiser.onnx", {}, Fp32Baseline(source), Options(**options)
    )


def test_half_precision_halves_the_matrices_and_keeps_the_contract(source: Source, tiny_bundle: Path, job) -> None:
    made = job(source)
    card = write_fp16(made)
    half, single = graph_of(made.path), graph_of(tiny_bundle / "onnx" / "denoiser.onnx")
    onnx.checker.check_model(made.path, full_check=True)
    assert {node.domain for node in half.node} == {""}
    assert list(half.input) == list(single.input)
    assert list(half.output) == list(single.output)
    kinds = {i.name: i.data_type for i in half.initializer}
    halves = [name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16]
    assert len(halves) == 7 * 7 + 1 + 1  # the matrices, the head's, and one table for embedding and head
    assert sum(end - first for first, end in places(half).values()) == Path(f"{made.path}.data").stat().st_size
    assert card["agreement"] >= 0.99
    assert card["graph_on_cpu"]["top1_agreement"] > 0.97
    assert card["kl"] < 1e-4
    assert card["trajectories"]["count"] == 4


def test_half_precision_is_judged_by_its_activations_too(source: Source, denoiser: Denoiser) -> None:
    """Weights alone, as the CPU provider has it, are closer to float32 than products in half precision are."""
    canvas, plain = canvases(source)[0], TorchForward(denoiser)
    single = logits_of(plain, canvas)
    with simulated_fp16(products(denoiser), "fp16"):
        found = logits_of(plain, canvas)
    halved = {name: tensor.half().float() if tensor.dim() == 2 else tensor for name, tensor in source.tensors.items()}
    weights = logits_of(TorchForward(build(source.shape, halved)), canvas)
    assert np.abs(found - single).mean() > 1.2 * np.abs(weights - single).mean() > 0
    np.testing.assert_allclose(found, single, atol=0.1)


@pytest.mark.parametrize(
    ("x", "weight", "found"),
    [
        ([2049, -2047], [1, 1], 1),
        ([1, 1], [2049, -2047], 1),
        ([2048, 1], [1, 1], 2048),
        ([2048, 2], [1, 1], 2050),
    ],
)
def test_half_precision_by_hand(x: list[int], weight: list[int], found: int) -> None:
    """From 2,048 on it has even numbers alone, whether they go in, are weights, or come out; a bias is float32's."""
    given, head = torch.tensor([x], dtype=torch.float), Decoder(1)
    head.bias.data[:] = 1
    projection = Projection(2, 1)
    projection.weight.data[:, 0] = torch.tensor(weight)
    table = torch.nn.Parameter(torch.tensor([weight], dtype=torch.float))
    with simulated_fp16({"m": [Product(projection, projection.weight), Product(head, table)]}, "fp16"):
        assert projection(given).item() == found
        assert head(given, table).item() == found + 1


def overflowing(tensors: Tensors) -> None:
    """The same function with values that are beyond 65,504 in layer 2; the weights themselves are not."""
    tensors["model.layers.2.attn.Wqkv.weight"][128:] *= 5e4
    tensors["model.layers.2.attn.Wo.weight"] /= 5e4
    assert tensors["model.layers.2.attn.Wqkv.weight"].abs().max() < 65_504


@pytest.mark.parametrize("accept", [False, True])
def test_a_product_that_overflows_is_named_and_cannot_be_accepted(source: Source, job, accept: bool) -> None:
    loud = altered(source, overflowing)
    with pytest.raises(
        FidelityError, match=r"variant fp16: the product with model\.layers\.2\.attn\.Wqkv overflows .*65,504"
    ):
        write_fp16(job(loud, accept=accept))


def test_a_weight_that_overflows_is_named(source: Source, job) -> None:
    loud = altered(source, lambda tensors: tensors["model.layers.4.mlp.Wo.weight"][0, 0].fill_(7e4))
    with pytest.raises(FidelityError, match=r"the product with model\.layers\.4\.mlp\.Wo overflows"):
        write_fp16(job(loud))
