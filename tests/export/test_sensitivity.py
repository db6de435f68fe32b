"""Which matrices are left out of 8 bits: the search by hand, planted outliers, and what a user says by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diffutron_ort.cli.main import main
from diffutron_ort.errors import DiffutronWarning, FidelityError, OptionError
from diffutron_ort_export import variants
from diffutron_ort_export.check import fidelity
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.rewrite import matrix_of
from diffutron_ort_export.quantize.int8 import Scheme
from diffutron_ort_export.quantize.sensitivity import Search, excluded
from diffutron_ort_export.variants import Job, Options, save_int8, write_int8
from tests.export.conftest import TINY
from tests.export.rewriting import NANO, Tensors, altered, graph_of, retold

NAMES = ["head.dense", "model.embeddings.tok_embeddings", "model.layers.1.mlp.Wo", "model.layers.11.mlp.Wo"]
TABLE = "model.embeddings.tok_embeddings"


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("model.layers.11.attn.Wqkv.2.weight", "model.layers.11.attn.Wqkv"),
        ("model.layers.0.mlp.Wi.10.weight", "model.layers.0.mlp.Wi"),
        ("model.layers.21.mlp.Wo.weight", "model.layers.21.mlp.Wo"),
        ("head.dense.weight", "head.dense"),
        (f"{TABLE}.weight", TABLE),
    ],
)
def test_the_matrix_of_a_part(name: str, matrix: str) -> None:
    assert matrix_of(name) == matrix


@pytest.mark.parametrize(
    ("patterns", "left"),
    [([], []), (["*"], NAMES), (["model.layers.1.*"], NAMES[2:3]), (["head.dense", "*Wo"], [NAMES[0], *NAMES[2:]])],
)
def test_patterns_of_names(patterns: list[str], left: list[str]) -> None:
    assert excluded(patterns, NAMES) == dict.fromkeys(left, Scheme.FLOAT)


def test_a_pattern_that_fits_nothing() -> None:
    with pytest.raises(OptionError, match=r"exclude 'model\.layers\.2': no matrix has such a name; there are head\.de"):
        excluded(["*", "model.layers.2"], NAMES)


class Fake(Search):
    """A search among matrices whose shares are known, by the scheme they are in; the graph is enough below a sum."""

    def __init__(self, shares: dict[str, tuple[float, float]], enough: float) -> None:
        self.matrices, self.shares, self.enough = {name: [] for name in shares}, shares, enough
        self.most, self._changes, self.asked = 2 * len(shares), [], []

    def _sensitivity(self, name: str, scheme: Scheme) -> float:
        self.asked.append((name, scheme))
        return self.shares[name][scheme is Scheme.PER_TOKEN]

    def _enough(self, count: int) -> bool:
        schemes = self.schemes(count)
        left = {
            name: schemes.get(name, Scheme.PER_TENSOR) for name in self.shares if schemes.get(name) is not Scheme.FLOAT
        }
        return sum(self.shares[name][scheme is Scheme.PER_TOKEN] for name, scheme in left.items()) <= self.enough


SHARES = {"a": (0.1, 0.09), "b": (8.0, 2.0), "c": (1.0, 0.9), "d": (0.5, 0.0), "e": (0.2, 0.2)}


def test_the_matrix_that_costs_most_changes_first_and_again_if_it_still_does() -> None:
    search = Fake(SHARES, 0)
    changes = [
        ("b", Scheme.PER_TOKEN),
        ("b", Scheme.FLOAT),
        ("c", Scheme.FLOAT),
        ("d", Scheme.PER_TOKEN),
        ("e", Scheme.FLOAT),
    ]
    for count in range(1, len(changes) + 1):
        assert search.schemes(count) == dict(changes[:count])
    assert search.schemes(search.most) == dict.fromkeys(SHARES, Scheme.FLOAT)


@pytest.mark.parametrize(("enough", "count"), [(9.9, 1), (3.9, 1), (1.9, 2), (0.9, 3), (0.4, 4), (0.15, 5), (0, 6)])
def test_no_more_changes_than_need_be(enough: float, count: int) -> None:
    assert Fake(SHARES, enough).least() == count


def test_shares_by_row_are_measured_for_matrices_that_are_reached_alone() -> None:
    search = Fake(SHARES, 1.9)
    assert search.least() == 2
    assert search.asked == [*((name, Scheme.PER_TENSOR) for name in SHARES), ("b", Scheme.PER_TOKEN)]


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
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes a job of a source of nano's shape, whose graph needs no tracing."""
    monkeypatch.setattr(fidelity, "trace", retold(NANO / "onnx" / "denoiser.onnx"))
    return lambda source, **options: Job(
        "int8", tmp_path / "denoiser.onnx", {}, Fp32Baseline(source), Options(**options)
    )


def size(job: Job) -> int:
    return Path(f"{job.path}.data").stat().st_size


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_outliers_are_found_and_left_in_float(nano: Source, job, recwarn, kind: str) -> None:
    plant, hurt = PLANTED[kind]
    made = job(altered(nano, plant))
    lost = save_int8(made, {})
    before = size(made)
    assert lost < 0.98
    card = write_int8(made)
    assert card["agreement"] >= 0.98
    changed = card["left_in_float"] + card["by_row"]
    # All of them, or fewer where these are enough: how much each costs hangs on how a processor rounds.
    assert set(hurt) <= set(card["left_in_float"]) or (
        set(hurt) & set(card["left_in_float"]) and len(changed) < len(hurt)
    )
    assert len(changed) <= len(hurt) + 2  # and little else: none or one where this was written
    assert card["extra_bytes"] == size(made) - before > 0
    said = "\n".join(str(warning.message) for warning in recwarn)
    assert (
        f"{', '.join(card['left_in_float'])} stayed in float32, which adds {card['extra_bytes'] / 1e6:.1f} MB" in said
    )
    assert "98% is the target" not in said


def test_nothing_need_be_left_of_nano_itself(nano: Source, job, recwarn) -> None:
    card = write_int8(job(nano))
    assert (card["left_in_float"], card["extra_bytes"]) == ([], 0)
    assert len(card["by_row"]) <= 1  # none where this was written, where 5 rows of 311 differ and 6 may
    assert card["agreement"] >= 0.98
    said = "\n".join(str(warning.message) for warning in recwarn)
    assert "aim" not in said
    assert ("per-token" in said) == bool(card["by_row"])


def test_far_from_float32_is_refused_unless_accepted(nano: Source, job) -> None:
    planted = altered(nano, attention)
    with pytest.raises(FidelityError, match=r"int8: 8\d\.\d% of the clear rows .* --accept writes it all the same"):
        write_int8(job(planted, exclude=[]))
    with pytest.warns(DiffutronWarning, match="98% is the target"):
        card = write_int8(job(planted, exclude=[], accept=True))
    assert card["agreement"] < 0.9
    assert (card["left_in_float"], card["extra_bytes"]) == ([], 0)


def test_a_simulation_that_was_too_kind_is_followed_by_more_changes(nano: Source, job, monkeypatch) -> None:
    written = []

    def save(_job: Job, schemes: dict[str, Scheme]) -> float:
        written.append(schemes)
        return 0.5 if len(schemes) < 4 else 1.0

    monkeypatch.setattr(variants, "save_int8", save)
    monkeypatch.setattr(variants, "Search", lambda _yardstick: Fake(dict.fromkeys("abcdef", (1.0, 1.0)), 5))
    assert list(variants.searched(job(nano))) == ["a", "b", "c", "d"]
    assert [len(schemes) for schemes in written] == [0, 1, 2, 3, 4]


def exported(tmp_path: Path, *arguments: str) -> int:
    return main(["export", str(TINY / "checkpoint"), str(tmp_path / "out"), "--variant", "int8", *arguments])


def test_a_table_left_in_float_by_name(tmp_path: Path, tiny_bundle: Path, monkeypatch, capsys) -> None:
    """The command, from a checkpoint to the card."""
    monkeypatch.setattr(fidelity, "trace", retold(tiny_bundle / "onnx" / "denoiser.onnx"))
    assert exported(tmp_path, "--accept", "--exclude", TABLE, "model.layers.?.mlp.W*") == 0
    variant = json.loads((tmp_path / "out" / "diffutron.json").read_text())["variants"]["int8"]
    left = variant["fidelity"]["left_in_float"]
    assert left == [TABLE, *(f"model.layers.{i}.mlp.{name}" for i in range(7) for name in ("Wi", "Wo"))]
    assert f"{TABLE}, model.layers.0.mlp.Wi" in capsys.readouterr().err
    assert (variant["batch_invariant"], variant["providers"]) == (False, ["cpu"])
    operators = [node.op_type for node in graph_of(tmp_path / "out" / variant["graph"]).node]
    assert (operators.count("Gemm"), operators.count("MatMul"), operators.count("MatMulInteger")) == (1, 21, 7 * 4 + 1)


def test_a_misspelt_matrix_is_wrong_usage(tmp_path: Path, capsys) -> None:
    assert exported(tmp_path, "--exclude", "model.layers.7.*") == 2
    assert "exclude 'model.layers.7.*': no matrix has such a name; there are model.layers.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
