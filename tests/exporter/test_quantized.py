"""int8 and fp16: what is stored, what is computed, and what planted outliers make the exporter leave alone."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from diffutron_ort.errors import FidelityError, OptionError
from diffutron_ort_export import export
from diffutron_ort_export.fidelity import Rows, compare, divergence
from diffutron_ort_export.int8 import CHUNKS, quantized
from tests.conftest import GOLDEN
from tests.exporter.conftest import edit_tensors, whole

TINY = GOLDEN / "tiny"
NANO = Path(__file__).parents[2] / "models" / "nano" / "checkpoint"
LAYERS, HIDDEN, VOCAB = 7, 64, 512
TABLE = "model.embeddings.tok_embeddings.weight"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with every matrix in int8."""
    out = tmp_path_factory.mktemp("int8") / "out"
    export(TINY / "checkpoint", out, variants=("int8", "fp16"), exclude=[], accept=True)
    return out


def graph_of(bundle: Path, name: str, data: bool = False) -> onnx.ModelProto:
    return onnx.load(bundle / "onnx" / name, load_external_data=data)


def card(bundle: Path, variant: str = "int8") -> dict:
    return json.loads((bundle / "diffutron.json").read_text())["variants"][variant]["fidelity"]


def test_quantized_by_hand() -> None:
    matrix = np.array([[127.0, 0.0, -0.5], [-63.6, 0.0, 0.25]], np.float32)
    q, scales = quantized(matrix, axis=0)
    assert q.tolist() == [[127, 0, -127], [-64, 0, 64]]
    np.testing.assert_allclose(scales, [1, 1, 0.5 / 127])
    assert quantized(matrix, axis=1)[0].tolist() == [[127, 0, 0], [-127, 0, 0]]


def test_int8_operators(plain: Path) -> None:
    model = graph_of(plain, "denoiser_int8.onnx")
    onnx.checker.check_model(str(plain / "onnx" / "denoiser_int8.onnx"))
    counts = Counter(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {""}
    assert counts["MatMulInteger"] == 7 * LAYERS + 1 + CHUNKS
    assert counts["DynamicQuantizeLinear"] == 4 * LAYERS + 1 + 2  # q, k, v share one, but for the last q
    assert counts["MatMul"] == counts["Gemm"] == 0
    assert counts["Attention"] == LAYERS


def test_the_8_bit_table_is_stored_once_and_read_in_parts(plain: Path) -> None:
    whole_table = f"{TABLE}.int8"
    initializers = {i.name: i for i in graph_of(plain, "denoiser_int8.onnx").graph.initializer}
    places = {n: {e.key: e.value for e in i.external_data} for n, i in initializers.items()}
    parts = sorted(int(place["offset"]) for name, place in places.items() if re.fullmatch(r"head\.\d+\.int8", name))
    assert parts == [int(places[whole_table]["offset"]) + i * VOCAB // CHUNKS * HIDDEN for i in range(CHUNKS)]
    matrices = sum(np.prod(i.dims) for i in initializers.values() if i.data_type == onnx.TensorProto.INT8)
    stored = matrices - VOCAB * HIDDEN  # the parts are the table again
    size = (plain / "onnx" / "denoiser_int8.onnx.data").stat().st_size
    assert stored <= size < stored + 40_000  # scales, norms and biases


def test_int8_computes_what_numpy_makes_of_its_initializers(plain: Path) -> None:
    """The head, from the logits of a pass: rows of the table times their scales, activations with one scale."""
    model = graph_of(plain, "denoiser_int8.onnx", data=True)
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    [add] = [n for n in model.graph.node if n.op_type == "Add" and n.input[1] == "head.0.bias"]
    producers = {output: node for node in model.graph.node for output in node.output}
    product = producers[add.input[0]]
    total = producers[producers[product.input[0]].input[0]]
    quantizer = producers[total.input[0]]
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in (quantizer.input[0], add.output[0])
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.arange(20, 36)
    nothing = np.zeros((LAYERS, 1, 0, HIDDEN), np.float32)
    one = np.ones(1, np.float32)
    given = dict(zip(("input_ids", "position_ids", "rows"), whole(ids), strict=True)) | {
        "past_position_ids": np.zeros((1, 0), np.int64), "past_key": nothing, "past_value": nothing,
        "seen_ids": np.zeros((1, 1), np.int64), "repetition_penalty": one, "temperature": one,
    }  # fmt: skip
    x, found = session.run([quantizer.input[0], add.output[0]], given)
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = np.float32((high - low) / 255)
    zero = np.rint(-low / step)
    q = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    scales, table = arrays["head.0.scale"], arrays[f"{TABLE}.int8"][: VOCAB // CHUNKS]
    np.testing.assert_allclose(found, q @ table.T * (step * scales) + arrays["head.0.bias"], rtol=1e-4, atol=1e-4)


def test_fp16_halves_the_matrices_and_keeps_the_contract(plain: Path, tiny_bundle: Path) -> None:
    half, single = graph_of(plain, "denoiser_fp16.onnx"), graph_of(tiny_bundle, "denoiser.onnx")
    assert [i.name for i in half.graph.input] == [i.name for i in single.graph.input]
    assert [o.type for o in half.graph.output] == [o.type for o in single.graph.output]
    kinds = Counter(i.data_type for i in half.graph.initializer if len(i.dims) == 2 and min(i.dims) > 1)
    assert kinds == {onnx.TensorProto.FLOAT16: 7 * LAYERS + 2}
    ratio = (plain / "onnx" / "denoiser_fp16.onnx.data").stat().st_size
    assert ratio < 0.55 * (tiny_bundle / "onnx" / "denoiser.onnx.data").stat().st_size
    assert card(plain, "fp16")["agreement"] > 0.98


def test_products_that_overflow_half_precision_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    def grow(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.2.mlp.Wo.weight"] *= 1e6

    edit_tensors(checkpoint / "model.safetensors", grow)
    with pytest.raises(FidelityError, match=r"layers\.2\.mlp\.Wo"):
        export(checkpoint, tmp_path / "out", variants=("fp16",), accept=True)
    assert not (tmp_path / "out").exists()


def plant(source: Path, copy: Path) -> tuple[Path, set[str]]:
    """A copy of nano's checkpoint, the same function in float, with outliers as trained encoders have them.

    A few channels of norms are scaled by 100 and what reads them by 1/100; and so in the gated unit.
    """
    folder = Path(shutil.copytree(source, copy))
    channels, planted = [3, 17, 40], set()

    def scale(tensors: dict[str, torch.Tensor]) -> None:
        for layer in (1, 2):
            stem = f"model.layers.{layer}"
            for norm, reader in (("attn_norm", "attn.Wqkv"), ("mlp_norm", "mlp.Wi")):
                tensors[f"{stem}.{norm}.weight"][channels] *= 100
                tensors[f"{stem}.{reader}.weight"][:, channels] /= 100
                planted.add(f"{stem}.{reader}")
            gate = tensors[f"{stem}.mlp.Wi.weight"].shape[0] // 2
            tensors[f"{stem}.mlp.Wi.weight"][[gate + c for c in channels]] *= 100
            tensors[f"{stem}.mlp.Wo.weight"][:, channels] /= 100
            planted.add(f"{stem}.mlp.Wo")

    edit_tensors(folder / "model.safetensors", scale)
    return folder, planted


def test_planted_outliers_are_found_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, planted = plant(NANO, tmp_path / "planted")
    export(folder, tmp_path / "plain", variants=("int8",), exclude=[], accept=True)
    lost = card(tmp_path / "plain")
    assert lost["agreement"] < 0.98
    assert "98% is the aim" in capsys.readouterr().err

    export(folder, tmp_path / "found", variants=("int8",))
    mended = card(tmp_path / "found")
    assert mended["agreement"] >= 0.98
    assert mended["kl"] < lost["kl"] / 2
    left = set(mended["left_in_float"]) | set(mended["by_row"])
    assert left & planted
    assert len(left) <= 2 * len(planted)
    sizes = [(tmp_path / name / "onnx" / "denoiser_int8.onnx.data").stat().st_size for name in ("plain", "found")]
    assert sizes[1] - sizes[0] == pytest.approx(mended["extra_bytes"], rel=0.02)


def test_exclude_by_hand(plain: Path, tmp_path: Path) -> None:
    export(TINY / "checkpoint", tmp_path / "out", variants=("int8",), exclude=["*.mlp.Wo", "head.dense"], accept=True)
    assert card(tmp_path / "out")["left_in_float"] == ["head.dense", *(f"model.layers.{i}.mlp.Wo" for i in range(7))]
    assert card(tmp_path / "out")["kl"] < card(plain)["kl"]
    counts = Counter(node.op_type for node in graph_of(tmp_path / "out", "denoiser_int8.onnx").graph.node)
    assert counts["MatMul"] == LAYERS + 1
    with pytest.raises(OptionError, match="no matrix has such a name"):
        export(TINY / "checkpoint", tmp_path / "none", variants=("int8",), exclude=["nothing"])


def rows(same: list[bool], lead: list[float], error: float, decided: list[bool]) -> Rows:
    n = len(same)
    return Rows(np.array(same), np.array(lead), np.full(n, error), np.array(decided), np.zeros(n), np.ones(n, bool))


def test_agreement_by_hand() -> None:
    """Undecided rows, and decided ones within the error, are not asked; unless the error is what is large."""
    assert rows([True, False, False], [3, 3, 0.1], 1, [True, False, True]).agreement() == 1
    assert rows([True, False, False], [3, 0.5, 0.1], 1, [True, True, True]).agreement() == pytest.approx(1 / 3)
    assert rows([True, False], [3, 1], 1, [False, False]).agreement() == 1
    assert rows([True, True], [0.1, 0.1], 1, [False, False]).agreement() == 0


def test_compare_by_hand() -> None:
    expected = np.log(np.array([[0.7, 0.2, 0.1], [0.335, 0.333, 0.332]]))
    found = expected + np.array([[0, 0, 0.3], [0, 0.3, 0]])
    result = compare(expected, found)
    assert result.same.tolist() == [True, False]
    np.testing.assert_allclose(result.lead, [np.log(0.7 / 0.2), np.log(0.335 / 0.333)])
    np.testing.assert_allclose(result.error, [0.3 / 3**0.5] * 2)
    assert result.decided.tolist() == [True, False]
    assert not compare(expected, np.full_like(expected, np.nan)).same.any()


def test_divergence_by_hand() -> None:
    class Step:
        def __init__(self, index: int, ids: list[int]) -> None:
            self.index, self.ids = index, np.array(ids)

    a = [Step(0, [4, 4]), Step(1, [4, 7])]
    assert divergence(a, a) is None
    assert divergence(a, [Step(0, [4, 4]), Step(1, [4, 8])]) == 1
