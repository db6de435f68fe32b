"""The fidelity card by hand, and graphs that must not pass."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check import verify
from diffutron_ort_export.check.verify import GraphSession, Reference
from diffutron_ort_export.checkpoint.source import Source, open_source
from tests.export.conftest import TINY


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


@pytest.fixture(scope="module")
def reference(source: Source) -> Reference:
    return Reference(source)


@pytest.fixture(scope="module")
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "onnx" / "denoiser.onnx"


@pytest.fixture(scope="module")
def session(graph: Path, source: Source) -> GraphSession:
    return GraphSession(graph, source.shape)


def altered(source: Source, name: str) -> Source:
    return dataclasses.replace(source, tensors={**source.tensors, name: source.tensors[name] * 1.01})


def test_a_card_by_hand() -> None:
    expected = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    found = np.array([[0.0, 2.5], [1.0, 1.25]], np.float32)
    card = verify.logit_figures(expected, found)
    assert card["max_abs"] == 1.25
    assert card["std"] == np.std([0, 2, 1, 0])
    assert card["max_abs_over_std"] == 1.25 / np.std([0, 2, 1, 0])
    assert card["top1_agreement"] == 0.5
    assert card["top1_agreement_clear"] == 1  # the margin of the row that flipped is 1, smaller than the error
    assert card["rows"] == 2


def test_divergence_by_hand() -> None:
    p, q = np.log(np.array([0.5, 0.5])), np.log(np.array([0.75, 0.25]))
    assert verify.kl_divergence(p, q) == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    assert verify.kl_divergence(p + 3, p) == pytest.approx(0)


def test_margins_by_hand() -> None:
    assert verify.margins(np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 0.0]])).tolist() == [2, 0]


def test_reductions_by_hand() -> None:
    found = verify.reductions(np.array([2.0, -1.0, 0.0]), np.array([0, 1, 0]), penalty=2.0, temperature=0.5)
    assert found["top_logits"].tolist() == [1, 0, -2]
    assert found["rest"] == pytest.approx(np.exp(-1) + np.exp(-3))
    assert found["rest_tempered"] == pytest.approx(np.exp(-2) + np.exp(-6))


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
    with pytest.raises(FidelityError, match="variant fp32: a logit differs from transformers' by"):
        verify.verify_exact(Reference(altered(source, name)), session, "fp32")


@pytest.mark.parametrize(
    ("setting", "value"), [("local_rope_theta", 10_000.0), ("global_rope_theta", 10_000.0), ("local_attention", 14)]
)
def test_a_graph_of_other_settings(source: Source, session: GraphSession, setting: str, value: float) -> None:
    """Every case is longer than the window and hangs on both thetas, or a wrong one would pass."""
    config = {**source.config, setting: value}
    thetas = {"full_attention": config["global_rope_theta"], "sliding_attention": config["local_rope_theta"]}
    config["rope_parameters"] = {n: {"rope_type": "default", "rope_theta": t} for n, t in thetas.items()}
    with pytest.raises(FidelityError):
        verify.verify_exact(Reference(dataclasses.replace(source, config=config)), session, "fp32")


@pytest.mark.parametrize("name", ["top_logits", "rest", "rest_tempered", "entropy"])
def test_reductions_that_are_not_of_the_logits(source: Source, graph: Path, name: str) -> None:
    class Wrong(GraphSession):
        def run(self, *inputs, **others):
            outputs = super().run(*inputs, **others)
            return outputs | {name: outputs[name] * np.float32(1.01)}

    with pytest.raises(FidelityError, match=f"{name} of a row is"):
        verify.check_reductions(Wrong(graph, source.shape), "fp32")


def test_rows_are_spread_where_the_vocabulary_is_large(source: Source) -> None:
    large = dataclasses.replace(source.shape, vocab_size=256_000)
    rows = verify.spread(np.arange(323), large)
    assert rows.size * large.vocab_size <= verify.MOST_LOGITS
    assert rows[0] == 0
    assert np.unique(np.diff(rows)).tolist() == [5]


def test_the_reference_has_both_thetas(source: Source, reference: Reference) -> None:
    config = reference.model.config
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 160_000
    assert torch.equal(torch.tensor(config.sliding_window), torch.tensor(source.shape.window // 2))
