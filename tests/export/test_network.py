"""Penalty, best tokens and sums: numbers one can check by hand, and float64, through the exported operators."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch.export import Dim

from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import tensor_shapes
from diffutron_ort_export.graph import network
from diffutron_ort_export.graph.onnx_graph import quiet

Reduce = Callable[..., dict[str, np.ndarray]]
VOCAB = 100


class Reductions(torch.nn.Module):
    """What the graph does with its logits."""

    def forward(self, logits, seen, penalty, temperature):
        penalised = network.penalise(logits.gather(1, seen), penalty[:, None])
        return network.reduce(logits.scatter(1, seen, penalised), temperature, 64)


@pytest.fixture(scope="module")
def reduce(tmp_path_factory: pytest.TempPathFactory) -> Reduce:
    path = tmp_path_factory.mktemp("reductions") / "reductions.onnx"
    n, u = Dim("n"), Dim("u")
    example = (torch.zeros(3, VOCAB), torch.zeros(3, 2, dtype=torch.int64), torch.ones(3), torch.ones(3))
    names = ["top_ids", "top_logits", "rest", "rest_tempered", "entropy"]
    with quiet():
        shapes = ({0: n}, {0: n, 1: u}, {0: n}, {0: n})
        program = torch.onnx.export(Reductions(), example, dynamo=True, opset_version=23, dynamic_shapes=shapes)
        program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(logits, seen=((0,),), penalty=1.0, temperature=1.0):
        logits = np.atleast_2d(np.asarray(logits, np.float32))
        seen = np.broadcast_to(np.asarray(seen), (len(logits), np.shape(seen)[-1]))
        scalars = [np.full(len(logits), value, np.float32) for value in (penalty, temperature)]
        feed = dict(zip((i.name for i in session.get_inputs()), (logits, seen, *scalars), strict=True))
        return dict(zip(names, session.run(None, feed), strict=True))

    return run


@pytest.mark.parametrize("lead", [0.5, 5, 20, 60])
def test_sums_without_the_best_at_extreme_confidences(reduce: Reduce, lead: float) -> None:
    logits = np.random.default_rng(1).normal(size=(8, VOCAB)).astype(np.float32)
    logits[:, 17] = logits.max() + lead
    found = reduce(logits, temperature=0.7)
    others = np.delete(logits.astype(np.float64) - logits[:, 17:18], 17, axis=1)
    rest = np.exp(others).sum(-1)
    np.testing.assert_allclose(found["rest"], rest, rtol=1e-5)
    np.testing.assert_allclose(found["rest_tempered"], np.exp(others / 0.7).sum(-1), rtol=2e-5)
    entropy = np.log1p(rest) - (np.exp(others) * others).sum(-1) / (1 + rest)
    np.testing.assert_allclose(found["entropy"], entropy, rtol=1e-5)


def test_confidences_that_float32_cannot_tell_apart_keep_their_order(reduce: Reduce) -> None:
    """1 - 1e-9 and 1 - 1e-8 are both 1 in float32; what is left of them is not."""
    logits = np.full((2, VOCAB), -200.0)
    logits[:, 0], logits[0, 1], logits[1, 1] = 0, np.log(1e-9), np.log(1e-8)
    rest = reduce(logits)["rest"]
    np.testing.assert_allclose(rest, [1e-9, 1e-8], rtol=1e-5)


def test_ties_put_the_lower_id_first_and_leave_out_one_token_alone(reduce: Reduce) -> None:
    logits = np.zeros(VOCAB)
    found = reduce(logits, temperature=0.5)
    assert found["top_ids"][0].tolist() == list(range(64))
    assert found["rest"][0] == found["rest_tempered"][0] == VOCAB - 1
    np.testing.assert_allclose(found["entropy"][0], np.log(VOCAB), rtol=1e-6)


def test_the_lowest_temperature_there_is(reduce: Reduce) -> None:
    logits = np.zeros(VOCAB)
    logits[:2] = 0.03, 0.02
    found = reduce(logits, temperature=0.01)
    np.testing.assert_allclose(found["rest_tempered"][0], np.exp(-1) + 98 * np.exp(-3), rtol=1e-5)
    assert np.isfinite(found["entropy"][0])


def test_ties_further_down(reduce: Reduce) -> None:
    logits = np.arange(VOCAB) // 2
    assert reduce(logits)["top_ids"][0, :6].tolist() == [98, 99, 96, 97, 94, 95]


def test_penalty_divides_positive_and_multiplies_negative_logits_once_an_id(reduce: Reduce) -> None:
    logits = np.full(VOCAB, -50.0)
    logits[[3, 5, 7]] = 4, 3, -1
    found = reduce(logits, seen=[[3, 7, 3, 3, 7]], penalty=2.0)
    assert found["top_ids"][0, :3].tolist() == [5, 3, 7]
    assert found["top_logits"][0, :3].tolist() == [3, 2, -2]


def test_penalty_of_one_is_none_whatever_was_seen(reduce: Reduce) -> None:
    logits = np.random.default_rng(2).normal(size=(2, VOCAB)).astype(np.float32)
    for name, value in reduce(logits, seen=[np.arange(VOCAB)]).items():
        np.testing.assert_array_equal(value, reduce(logits)[name])


def test_a_vocabulary_of_fewer_than_64() -> None:
    ids, *_ = network.reduce(torch.arange(10.0)[None], torch.ones(1), min(network.TOP, 10))
    assert ids.tolist() == [list(range(9, -1, -1))]


@pytest.mark.parametrize("x", [0.0, 1e-30, 1e-9, 3e-8, 1e-4, 1.0, 255_999.0, 1e30])
def test_log1p(x: float) -> None:
    np.testing.assert_allclose(network.log1p(torch.tensor(x)).item(), np.log1p(x), rtol=3e-7)


def test_masks_by_hand() -> None:
    near, far = network.masks(torch.tensor([[4, -1]]), torch.tensor([[-1, 1, 2, 6, 7]]), window=4)
    no = network.MASKED
    assert near[0, 0, 0].tolist() == [no, no, 0, 0, no]
    assert far[0, 0].tolist() == [[no, 0, 0, 0, 0]] * 2


def test_base_has_137_tensors_and_307_786_240_parameters() -> None:
    base = Shape(256_000, 768, 1152, 22, 12, 128, 8192, 1e-5, 3, 160_000.0, 160_000.0)
    shapes = tensor_shapes(base)
    assert len(shapes) == 137
    assert sum(int(np.prod(size)) for size in shapes.values()) == 307_786_240
    assert shapes["model.layers.21.attn.Wqkv.weight"] == (2304, 768)
