"""Which matrices are left out of 8 bits: the search by hand, planted outliers, and what a user says by name."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from diffutron_ort.cli.main import main
from diffutron_ort.errors import DiffutronWarning, FidelityError, OptionError
from diffutron_ort_export import variants
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.check.products import product
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.precision import Precision, matrix_names
from diffutron_ort_export.quantize import sensitivity
from diffutron_ort_export.quantize.sensitivity import by_divergence, by_noise, excluded, fewest, ranked
from diffutron_ort_export.variants import Attempt, Job, Options, attempt, write_int8
from tests.export.conftest import TINY
from tests.export.rewriting import NANO, Tensors, altered, graph_of

NAMES = ["head.dense", "model.embeddings.tok_embeddings", "model.layers.1.mlp.Wo", "model.layers.11.mlp.Wo"]
TABLE = "model.embeddings.tok_embeddings"


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], []),
        (["*"], NAMES),
        (["model.layers.1.*"], NAMES[2:3]),
        (["head.dense", "*Wo"], [NAMES[0], *NAMES[2:]]),
        (["*Wo", "model.*"], [*NAMES[2:], NAMES[1]]),
    ],
)
def test_patterns_of_names(patterns: list[str], left: list[str]) -> None:
    assert excluded(patterns, NAMES) == left


def test_a_pattern_that_fits_nothing() -> None:
    with pytest.raises(OptionError, match=r"exclude 'model\.layers\.2': no matrix has such a name; there are head\.de"):
        excluded(["*", "model.layers.2"], NAMES)


@pytest.mark.parametrize("needed", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 19, 20])
def test_no_more_than_need_be_and_no_number_is_tried_twice(needed: int) -> None:
    tried: list[int] = []

    def enough(count: int) -> bool:
        tried.append(count)
        return count >= needed

    assert fewest(enough, 20) == needed
    assert len(tried) == len(set(tried)) <= 9
    assert tried[0] == 1


def test_if_nothing_is_enough_all_are_taken() -> None:
    assert fewest(lambda _: False, 13) == 13
    assert fewest(lambda _: False, 1) == 1


# Planted outliers: the same function in float32, with a few channels a hundred times as large as the others

CHANNELS = [3, 77, 200]
HIDDEN, INNER, BY = 256, 384, 100


def norm(tensors: Tensors, layer: int, name: str, reader: str) -> None:
    """Channels of a norm, which the matrix that reads it takes back."""
    tensors[f"model.layers.{layer}.{name}.weight"][CHANNELS] *= BY
    tensors[f"model.layers.{layer}.{reader}.weight"][:, CHANNELS] /= BY


def attention(tensors: Tensors) -> None:
    for layer in (1, 3):
        norm(tensors, layer, "attn_norm", "attn.Wqkv")


def values(tensors: Tensors) -> None:
    """Channels of attention's values: some weigh much in one token and little in others, so a scale a row gains."""
    for layer in (0, 5):
        tensors[f"model.layers.{layer}.attn.Wqkv.weight"][[2 * HIDDEN + c for c in CHANNELS]] *= BY
        tensors[f"model.layers.{layer}.attn.Wo.weight"][:, CHANNELS] /= BY


def units(tensors: Tensors) -> None:
    """Channels of the norms before gated units, and of what a gate lets through."""
    for layer in (0, 2, 4):
        norm(tensors, layer, "mlp_norm", "mlp.Wi")
    tensors["model.layers.1.mlp.Wi.weight"][[INNER + c for c in CHANNELS]] *= BY
    tensors["model.layers.1.mlp.Wo.weight"][:, CHANNELS] /= BY


PLANTED: dict[str, tuple[Callable[[Tensors], None], list[str]]] = {
    "attention": (attention, ["model.layers.1.attn.Wqkv", "model.layers.3.attn.Wqkv"]),
    "values": (values, ["model.layers.0.attn.Wo", "model.layers.5.attn.Wo"]),
    "units": (units, ["model.layers.0.mlp.Wi", "model.layers.2.mlp.Wi", "model.layers.4.mlp.Wi"]),
}


@pytest.fixture(scope="module")
def nano() -> Source:
    return open_source(str(NANO / "checkpoint"))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes a job of a source."""
    return lambda source, *, thorough=False, **options: Job(
        "int8", tmp_path / "denoiser.onnx", {}, Fp32Baseline(source, thorough=thorough), Options(**options)
    )


def size(job: Job) -> int:
    return Path(f"{job.path}.data").stat().st_size


def agreement(tried: Attempt) -> float:
    return variants.join(list(tried.compared.values())).agreement()


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_outliers_are_found_and_left_in_float(nano: Source, job, recwarn, kind: str) -> None:
    plant, hurt = PLANTED[kind]
    made = job(altered(nano, plant))
    assert agreement(attempt(made, Precision.INT8)) < 0.98
    before = size(made)
    card = write_int8(made)
    assert card["agreement"] >= 0.98
    left = card["left_in_float"]
    # All of them, or fewer where these are enough: how much each costs hangs on how a processor rounds.
    assert set(hurt) <= set(left) or (set(hurt) & set(left) and len(left) < len(hurt))
    assert len(left) <= len(hurt) + 2  # and little else
    assert size(made) - before == pytest.approx(card["extra_bytes"], abs=1024 * len(left))  # tensors are aligned
    assert card["extra_bytes"] > 0
    said = "\n".join(str(warning.message) for warning in recwarn)
    assert f"{', '.join(left)} stayed in float32, which adds {card['extra_bytes'] / 1e6:.1f} MB" in said
    assert "98% is the target" not in said


@pytest.mark.parametrize(("measure", "kind"), [*((by_noise, kind) for kind in PLANTED), (by_divergence, "attention")])
def test_both_rankings_put_planted_outliers_first(nano: Source, kind: str, measure: Callable) -> None:
    plant, hurt = PLANTED[kind]
    found = measure(Fp32Baseline(altered(nano, plant)))
    assert sorted(found) == sorted(matrix_names(nano.shape))
    # One more, since the units of layer 1 have large channels too; they cost less.
    assert set(hurt) <= set(sorted(found, key=lambda name: -found[name])[: len(hurt) + 1])


def test_only_a_thorough_ranking_takes_a_pass_for_each_matrix(nano: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "by_noise", lambda _: {"a": 1.0, "b": 3.0, "c": 2.0})
    monkeypatch.setattr(sensitivity, "by_divergence", lambda _: {"a": 3.0, "b": 2.0, "c": 1.0})
    assert ranked(Fp32Baseline(nano)) == ["b", "c", "a"]
    assert ranked(Fp32Baseline(nano, thorough=True)) == ["a", "b", "c"]


def test_noise_by_hand(nano: Source) -> None:
    """Of the head's dense matrix: the error of its 8-bit product over the product, from what goes into it."""
    baseline = Fp32Baseline(nano)
    meter = sensitivity.NoiseMeter(nano)
    seen = []
    multiplied = meter.multiplied
    meter.multiplied = lambda x, matrix, name: seen.append((name, x, matrix)) or multiplied(x, matrix, name)
    for _ in meter.parts([canvas.asked for canvas in baseline.masked[::6]]):
        pass
    [(x, matrix)] = [(x, matrix) for name, x, matrix in seen if name == "head.dense"]
    exact = x.astype(np.float64) @ matrix.T
    ratio = np.square(product(x, matrix, Precision.INT8) - exact).sum() / np.square(exact).sum()
    assert by_noise(baseline)["head.dense"] == pytest.approx(ratio, rel=1e-3)
    assert 1e-6 < ratio < 1e-2


def test_nothing_need_be_left_of_nano_itself(nano: Source, job, recwarn) -> None:
    card = write_int8(job(nano))
    assert (card["left_in_float"], card["extra_bytes"]) == ([], 0)
    assert card["agreement"] >= 0.98
    assert card["trajectories"]["same_tokens"] > 0.9
    said = "\n".join(str(warning.message) for warning in recwarn)
    assert "target" not in said
    assert "float32" not in said


def test_far_from_float32_is_refused_unless_accepted(nano: Source, job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "BY", 1000)
    planted = altered(nano, attention)
    with pytest.raises(FidelityError, match=r"int8: \d\d\.\d% of the clear rows .* --accept writes it all the same"):
        write_int8(job(planted, exclude=[]))
    with pytest.warns(DiffutronWarning, match="98% is the target"):
        card = write_int8(job(planted, exclude=[], accept=True))
    assert card["agreement"] < 0.9
    assert (card["left_in_float"], card["extra_bytes"]) == ([], 0)


def test_the_graph_that_suffices_is_the_one_that_is_written(nano: Source, job, monkeypatch) -> None:
    """The search tries numbers above and below the one that it ends with."""
    written: list[str] = []

    class Tried:
        def __init__(self, precision: Precision, left: Sequence[str]) -> None:
            written.append("".join(left) if precision is Precision.INT8 else precision)
            self.suffices = len(left) >= 3

    monkeypatch.setattr(variants, "attempt", lambda _job, precision, left=(): Tried(precision, left))
    monkeypatch.setattr(variants, "ranked", lambda _baseline: list("abcdef"))
    assert variants.searched(job(nano)).suffices
    assert written == ["int8_per_tensor", "", "a", "ab", "abcd", "abc", "abc"]


def exported(tmp_path: Path, *arguments: str) -> int:
    return main(["export", str(TINY / "checkpoint"), str(tmp_path / "out"), "--variant", "int8", *arguments])


def test_a_table_left_in_float_by_name(tmp_path: Path, capsys) -> None:
    """The command, from a checkpoint to the card."""
    assert exported(tmp_path, "--accept", "--exclude", TABLE, "model.layers.?.mlp.W*") == 0
    variant = json.loads((tmp_path / "out" / "diffutron.json").read_text())["variants"]["int8"]
    left = variant["fidelity"]["left_in_float"]
    assert left == [TABLE, *(f"model.layers.{i}.mlp.{name}" for i in range(7) for name in ("Wi", "Wo"))]
    assert f"{TABLE}, model.layers.0.mlp.Wi" in capsys.readouterr().err
    assert variant["providers"] == ["cpu"]
    kinds = {i.name: i.data_type for i in graph_of(tmp_path / "out" / variant["graph"]).initializer}
    stored = {name: kinds[name] for name in kinds if name.startswith("layers.3.") and name.endswith(".weight")}
    assert {name for name, kind in stored.items() if kind == onnx.TensorProto.INT8} == {
        f"layers.3.attn.{name}.weight" for name in ("Wq", "Wk", "Wv", "Wo")
    }
    assert kinds["embeddings.tok_embeddings.weight"] == onnx.TensorProto.FLOAT


def test_a_misspelt_matrix_is_wrong_usage(tmp_path: Path, capsys) -> None:
    assert exported(tmp_path, "--exclude", "model.layers.7.*") == 2
    assert "exclude 'model.layers.7.*': no matrix has such a name; there are model.layers.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
