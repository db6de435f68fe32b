"""The fidelity card by hand, and graphs that must not pass."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check import verify
from diffutron_ort_export.check.reference import Reference
from diffutron_ort_export.check.session import GraphSession
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.precision import Precision, matrix_names
from tests.export.conftest import TINY
from tests.export.rewriting import altered


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


@pytest.fixture(scope="module")
def reference(source: Source) -> Reference:
    return Reference(source.weights, source.shape)


@pytest.fixture(scope="module")
def session(source: Source, tmp_path_factory: pytest.TempPathFactory) -> GraphSession:
    return session_of(source, tmp_path_factory.mktemp("graph"))


def session_of(source: Source, folder: Path) -> GraphSession:
    path = folder / "denoiser.onnx"
    write_denoiser(source, path, dict.fromkeys(matrix_names(source.shape), Precision.FLOAT32), {})
    return GraphSession(path, source.shape, source.output_vocabulary)


def case(expected: list[list[float]], found: list[list[float]], name: str = "long") -> verify.Case:
    return verify.Case(name, np.array(expected, np.float32), np.array(found, np.float32))


def test_a_card_by_hand() -> None:
    made = case([[0.0, 2.0], [1.0, 0.0]], [[0.0, 2.5], [1.0, 1.25]])
    card = verify.logit_figures([verify.figures(made)])
    assert card["max_abs"] == 1.25
    assert card["std"] == pytest.approx(np.std([0, 2, 1, 0]))
    assert card["max_abs_over_std"] == pytest.approx(1.25 / np.std([0, 2, 1, 0]))
    assert card["top1_agreement"] == 0.5
    assert card["top1_agreement_clear"] == 1  # the margin of the row that flipped is 1, smaller than the error
    assert card["rows"] == 2


def test_a_card_of_several_cases_is_that_of_their_rows() -> None:
    rows = [[0.0, 2.0], [1.0, 0.0], [5.0, 3.0]], [[0.0, 2.5], [1.0, 1.25], [5.0, 3.0]]
    parts = [case(rows[0][:1], rows[1][:1]), case(rows[0][1:], rows[1][1:], "padded")]
    whole, several = (verify.logit_figures([verify.figures(c) for c in cases]) for cases in ([case(*rows)], parts))
    assert several == {name: pytest.approx(value) for name, value in whole.items()}


def test_one_nan_among_cases_is_refused() -> None:
    good, bad = case([[0.0, 2.0]], [[0.0, 2.0]]), case([[0.0, 2.0]], [[0.0, float("nan")]], "padded")
    for cases in ([good, bad], [bad, good]):
        with pytest.raises(FidelityError, match="by nan"):
            verify.exact_card(cases, "fp32")


def test_a_checkpoint_that_predicts_nothing_is_refused() -> None:
    with pytest.raises(FidelityError, match="every token has the same logit"):
        verify.exact_card([case([[3.0, 3.0]], [[3.0, 3.0]])], "fp32")


def test_divergence_by_hand() -> None:
    p, q = np.log(np.array([0.5, 0.5])), np.log(np.array([0.75, 0.25]))
    assert verify.kl_divergence(p, q) == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    assert verify.kl_divergence(p + 3, p) == pytest.approx(0)


def test_margins_by_hand() -> None:
    assert verify.margins(np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 0.0]])).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"max_abs": 2.0, "max_abs_over_std": 2e-3, "top1_agreement_clear": 1.0}, r"differs .* by 2, which is 0.002"),
        ({"max_abs": 0.0, "max_abs_over_std": float("nan"), "top1_agreement_clear": 1.0}, "which is nan"),
        ({"max_abs": 0.0, "max_abs_over_std": 0.0, "top1_agreement_clear": 0.99}, "99.00% of the clear rows"),
    ],
)
def test_over_the_tolerance(card: dict, message: str) -> None:
    with pytest.raises(FidelityError, match=message):
        verify.check(card, "fp32")


def test_tiny_passes(reference: Reference, session: GraphSession) -> None:
    card = verify.verify_exact(reference, session, "fp32")
    assert card["max_abs"] <= 1e-4
    assert card["max_abs_over_std"] <= verify.MOST_ERROR
    assert card["top1_agreement"] == card["top1_agreement_clear"] == 1
    assert 0 <= card["kl"] < 1e-9
    assert card["cases"].keys() == {"long", "padded", "cached"}


@pytest.mark.parametrize("name", ["model.layers.6.mlp.Wo.weight", "model.layers.1.attn.Wo.weight", "head.norm.weight"])
def test_a_graph_of_other_weights(source: Source, session: GraphSession, name: str) -> None:
    other = altered(source, lambda tensors: tensors[name].__imul__(np.float32(1.01)))
    with pytest.raises(FidelityError, match="variant fp32: a logit differs from the reference's by"):
        verify.verify_exact(Reference(other.weights, other.shape), session, "fp32")


@pytest.mark.parametrize("setting", [{"local_theta": 10_000.0}, {"global_theta": 10_000.0}, {"window": 14}])
def test_a_graph_of_other_settings(source: Source, session: GraphSession, setting: dict) -> None:
    """Every case is longer than the window and hangs on both thetas, or a wrong one would pass."""
    with pytest.raises(FidelityError):
        verify.verify_exact(Reference(source.weights, dataclasses.replace(source.shape, **setting)), session, "fp32")


def test_each_case_finds_a_fault_of_its_own(
    source: Source, reference: Reference, session: GraphSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that takes padding for tokens, and one that forgets the gaps of its cache."""
    run = session.run

    def unpadded(ids, positions, rows, **others):
        return run(ids, np.tile(np.arange(ids.shape[1]), (len(ids), 1)), rows, **others)

    def gapless(ids, positions, rows, **others):
        past = others.get("past_position_ids")
        return run(ids, positions, rows, **others | ({} if past is None else {"past_position_ids": np.abs(past)}))

    for wrong, name in ((unpadded, "padded"), (gapless, "cached")):
        monkeypatch.setattr(session, "run", wrong)
        cases = verify.compared(reference, list(verify.trials(session)), None)
        errors = {case.name: verify.largest_error(case.expected, case.found) for case in cases}
        assert errors.pop(name) > 0.01
        assert errors.pop("long") < 1e-3


def test_an_output_vocabulary_has_its_own_columns(source: Source, tmp_path: Path) -> None:
    small = dataclasses.replace(source, output_vocabulary=(0, 1, 2, 3, 4, *range(5, 512, 7)))
    session = session_of(small, tmp_path)
    card = verify.verify_exact(Reference(small.weights, small.shape), session, "fp32")
    assert card["max_abs_over_std"] < 1e-4
    assert session.predicted_ids.tolist() == list(small.output_vocabulary)


def test_rows_are_spread_where_the_vocabulary_is_large(source: Source) -> None:
    large = dataclasses.replace(source.shape, vocab_size=256_000)
    rows = verify.spread(np.arange(323), large)
    assert rows.size * large.vocab_size <= verify.MOST_LOGITS
    assert rows[0] == 0
    assert np.unique(np.diff(rows)).tolist() == [11]
    assert verify.spread(np.arange(323), large, 3).size * 3 <= rows.size + 3


def test_only_wanted_outputs_are_fetched(session: GraphSession, source: Source) -> None:
    found = session.run(np.array([[4, 7]]), np.array([[0, 1]]), np.array([0]), fetch=["rest", "key.0"])
    assert {name: value.shape for name, value in found.items()} == {
        "rest": (1,),
        "key.0": (1, 2, source.shape.hidden_size),
    }
