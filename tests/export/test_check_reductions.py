"""What is said of a graph that derives something wrong from its own logits; ties and tiny doubts, constructed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check.reductions import check_reductions, penalise, reductions
from diffutron_ort_export.check.session import GraphSession, Outputs
from diffutron_ort_export.checkpoint.layout import BIAS, TABLE
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.precision import Precision, matrix_names
from tests.export.conftest import TINY
from tests.export.rewriting import Tensors, altered


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


@pytest.fixture(scope="module")
def graph(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(source, tmp_path_factory.mktemp("graph"))


def written(source: Source, folder: Path, precision: Precision = Precision.FLOAT32) -> Path:
    path = folder / "denoiser.onnx"
    write_denoiser(source, path, dict.fromkeys(matrix_names(source.shape), precision), {})
    return path


def test_reductions_by_hand() -> None:
    logits = penalise(np.array([2.0, -1.0, 0.0]), np.array([True, True, False]), 2.0)
    found = reductions(logits, 0.5)
    assert found["top_logits"].tolist() == [1, 0, -2]
    assert found["rest"] == pytest.approx(np.exp(-1) + np.exp(-3))
    assert found["rest_tempered"] == pytest.approx(np.exp(-2) + np.exp(-6))
    p = np.exp([1, 0, -2]) / np.exp([1, 0, -2]).sum()
    assert found["entropy"] == pytest.approx(-(p * np.log(p)).sum())


def test_suppressed_tokens_have_no_part_in_them() -> None:
    found = reductions(np.array([1.0, -np.inf, 0.0]), 1.0)
    assert found["rest"] == pytest.approx(np.exp(-1))
    assert found["entropy"] == pytest.approx(reductions(np.array([1.0, 0.0]), 1.0)["entropy"])


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
@pytest.mark.parametrize("kept", [None, (0, 1, 2, 3, 4, *range(5, 512, 9)), (0, 1, 2, 3, 4, 7)])
def test_a_sound_graph_passes(source: Source, tmp_path: Path, precision: Precision, kept: tuple | None) -> None:
    some = dataclasses.replace(source, output_vocabulary=kept)
    check_reductions(GraphSession(written(some, tmp_path, precision), some.shape, kept), "fp32")


def wrong_session(graph: Path, source: Source, change: Callable[[dict, Outputs], Outputs]) -> GraphSession:
    class Wrong(GraphSession):
        def run(self, *inputs, **others):
            return change(others, dict(super().run(*inputs, **others)))

    return Wrong(graph, source.shape)


@pytest.mark.parametrize("name", ["top_logits", "rest", "rest_tempered", "entropy", "target_logits"])
def test_reductions_that_are_not_of_the_logits(source: Source, graph: Path, name: str) -> None:
    wrong = wrong_session(graph, source, lambda _, outputs: outputs | {name: outputs[name] * np.float32(1.01)})
    with pytest.raises(FidelityError, match=f"variant fp32: {name} of a row is"):
        check_reductions(wrong, "fp32")


def swapped(_: dict, outputs: Outputs) -> Outputs:
    """The second and the third best token in each other's place."""
    order = np.r_[0, 2, 1, 3 : outputs["top_ids"].shape[1]]
    return outputs | {"top_ids": outputs["top_ids"][:, order]}


def unsuppressed(others: dict, outputs: Outputs) -> Outputs:
    """One of the sums with all that was suppressed."""
    suppressed = others.get("suppress_ids", np.zeros((2, 0)))
    return outputs | {"rest": outputs["rest"] + np.float32(0.01 * suppressed.shape[1])}


def rowless(_: dict, outputs: Outputs) -> Outputs:
    """A row where there should be none."""
    return {name: value if value.shape[0] else np.ones((1, *value.shape[1:])) for name, value in outputs.items()}


def forgetful(others: dict, outputs: Outputs) -> Outputs:
    """Another sum, where logits are not wanted."""
    return outputs if others.get("want_logits", True) else outputs | {"rest": outputs["rest"] * 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "top_logits of a row|which is not their order"),
        (unsuppressed, "rest of a row is"),
        (rowless, "of a pass without rows"),
        (forgetful, "rest of a pass without logits"),
    ],
)
def test_other_faults(source: Source, graph: Path, change: Callable, message: str) -> None:
    with pytest.raises(FidelityError, match=message):
        check_reductions(wrong_session(graph, source, change), "fp32")


# Constructed ties and doubts


def one_pass(session: GraphSession, **others: np.ndarray) -> Outputs:
    ids = np.array([[9, 4, 4, 30]])
    return session.run(ids, np.arange(4)[None], np.array([1, 2]), **others)


def tied(tensors: Tensors) -> None:
    """The ids 50, 301 and 480 have the same logit everywhere, and 50 and 301 the best."""
    for name in (TABLE, BIAS):
        tensors[name][[50, 480]] = tensors[name][301]
    tensors[BIAS][[50, 301, 480]] = 40


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
def test_of_equal_logits_the_lower_id_is_first(source: Source, tmp_path: Path, precision: Precision) -> None:
    made = altered(source, tied)
    session = GraphSession(written(made, tmp_path, precision), made.shape)
    check_reductions(session, "fp32")
    found = one_pass(session)
    assert found["top_ids"][:, :3].tolist() == [[50, 301, 480]] * 2
    np.testing.assert_allclose(found["rest"], 2, rtol=1e-3)
    without = one_pass(session, suppress_ids=np.array([[50]]))
    assert without["top_ids"][:, :2].tolist() == [[301, 480]] * 2
    seen = one_pass(session, seen_ids=np.array([[50, 301]]), repetition_penalty=np.array([1.0], np.float32))
    assert seen["top_ids"][:, :3].tolist() == [[50, 301, 480]] * 2


def test_the_wrong_one_of_two_equal_ones_is_seen(source: Source, tmp_path: Path) -> None:
    made = altered(source, tied)

    def last_first(_: dict, outputs: Outputs) -> Outputs:
        order = np.r_[1, 0, 2 : outputs["top_ids"].shape[1]]
        return outputs | {"top_ids": outputs["top_ids"][:, order]}

    with pytest.raises(FidelityError, match="which is not their order"):
        check_reductions(wrong_session(written(made, tmp_path), made, last_first), "fp32")


def certain(doubt: float) -> Callable[[Tensors], None]:
    """The odds against id 60 are about `doubt`, those of id 70 alone."""

    def change(tensors: Tensors) -> None:
        tensors[TABLE][70] = tensors[TABLE][60]
        tensors[BIAS][60], tensors[BIAS][70] = 80, 80 + np.log(doubt)

    return change


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
def test_doubts_of_1e_9_and_1e_8_are_told_apart(source: Source, tmp_path: Path, precision: Precision) -> None:
    for doubt in (1e-9, 1e-8):
        made = altered(source, certain(doubt))
        session = GraphSession(written(made, tmp_path, precision), made.shape)
        check_reductions(session, "fp32")
        found = one_pass(session)
        assert found["top_ids"][:, :2].tolist() == [[60, 70]] * 2
        np.testing.assert_allclose(found["rest"], doubt, rtol=0.01)


def test_a_doubt_that_is_lost_is_seen(source: Source, tmp_path: Path) -> None:
    """Subtracting 1 from the sum over all tokens would be off by less than any absolute tolerance."""
    made = altered(source, certain(1e-9))

    def rounded(_: dict, outputs: Outputs) -> Outputs:
        return outputs | {"rest": (1 + outputs["rest"].astype(np.float32)) - np.float32(1)}

    with pytest.raises(FidelityError, match="rest of a row is"):
        check_reductions(wrong_session(written(made, tmp_path), made, rounded), "fp32")
