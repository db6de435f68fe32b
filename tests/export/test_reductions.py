"""From logits to candidates and sums: numbers one can check by hand, and float64, through the exported operators."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx_ir.passes.common import NameFixPass
from onnxscript import GraphBuilder

from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS
from diffutron_ort_export.graph import vocabulary
from diffutron_ort_export.graph.head import NEVER
from diffutron_ort_export.graph.products import Operand
from diffutron_ort_export.graph.reductions import Options, Predictions, log1p, reduce_logits
from diffutron_ort_export.graph.values import BOOL, FLOAT, INT64
from diffutron_ort_export.graph.vocabulary import STEP, Columns, Ids
from tests.export.networks import check_row, reduced

Reduce = Callable[..., dict[str, np.ndarray]]
VOCAB, MASK = 300, SPECIAL_IDS["mask"]
SUPPRESSED = np.float32(-1e30)


class Given(NamedTuple):
    """A part of logits that are given instead of computed."""

    first: int
    width: int

    def __call__(self, op: Any, x: Operand) -> ir.Value:
        return op.Slice(x.value, [self.first], [self.first + self.width], [1])


class Layout(NamedTuple):
    """How a vocabulary is divided."""

    vocab: int
    part: int = 32_000
    kept: Sequence[int] | None = None

    def columns(self) -> Columns:
        return Columns(self.vocab, None if self.kept is None else np.array(self.kept))


LAYOUTS = {
    "one part": Layout(VOCAB),
    "parts that do not divide it": Layout(VOCAB, 100),  # 3 parts of 128 columns, the last with 84 that fill it up
    "the smallest parts": Layout(320, 64),
    "parts of nothing": Layout(100, 16),  # 6 parts of 64 columns, of which the last 4 only fill up
    "fewer than 64": Layout(40, 20),
    "fewer than a group": Layout(9),
    "an output vocabulary": Layout(VOCAB, 50, sorted({MASK, *range(0, 60, 2), *range(61, 299, 3)})),
    "an output vocabulary of fewer than 64": Layout(VOCAB, 32_000, sorted({MASK, *range(100, 130)})),
}


def graph_of(columns: Columns) -> ir.Model:
    """What the denoiser does with its logits, as a graph of its own."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23}, name="reductions")
    builder = GraphBuilder(graph)
    axes = {
        "seen": (INT64, ["n", "u"]),
        "suppressed": (INT64, ["n", "s"]),
        "barred": (BOOL, ["n", "u"]),
        "penalty": (FLOAT, ["n", 1]),
        "temperature": (FLOAT, ["n", 1]),
        "targets": (INT64, ["n", "t"]),
        "wants_entropy": (BOOL, []),
        "wants_logits": (BOOL, []),
    }
    logits = builder.input("given", FLOAT, ["n", columns.padded])
    options = Options(*(builder.input(name, *axes[name]) for name in Options._fields))
    parts = [Given(first, columns.width) for first in columns.firsts]
    found = reduce_logits(builder.op, Operand(logits), parts, Ids(builder.op, columns), options)
    for name, value in found._asdict().items():
        builder.add_output(value, name)
        value.type, value.shape = ir.TensorType(INT64 if name == "top_ids" else FLOAT), None
    model = ir.Model(graph, ir_version=10)
    NameFixPass()(model)
    return model


def running(layout: Layout) -> Reduce:
    """Return the reductions of a layout as a function of logits [n, columns] and options, which are None or lists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "PART", layout.part)
        columns = layout.columns()
        model = ir.to_proto(graph_of(columns))
        filled = columns.padded - columns.count
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(logits, seen=(), suppressed=(), penalty=1.0, temperature=1.0, targets=(), entropy=True, wants_logits=True):
        logits = np.atleast_2d(np.asarray(logits, np.float32))
        n = len(logits)
        seen, suppressed, targets = (
            np.array([ids] * n, np.int64).reshape(n, -1) for ids in (seen, suppressed, targets)
        )
        feed = {
            "given": np.pad(logits, ((0, 0), (0, filled)), constant_values=NEVER),
            "seen": seen,
            "suppressed": suppressed,
            "barred": np.isin(seen, suppressed[:1]),
            "penalty": np.broadcast_to(np.asarray(penalty, np.float32), n)[:, None],
            "temperature": np.broadcast_to(np.asarray(temperature, np.float32), n)[:, None],
            "targets": targets,
            "wants_entropy": np.array(entropy),
            "wants_logits": np.array(wants_logits),
        }
        return dict(zip(Predictions._fields, session.run(None, feed), strict=True))

    return run


@pytest.fixture(scope="module")
def layouts() -> dict[str, Reduce]:
    return {name: running(layout) for name, layout in LAYOUTS.items()}


@pytest.fixture(scope="module", params=["one part", "parts that do not divide it"])
def reduce(request: pytest.FixtureRequest, layouts: dict[str, Reduce]) -> Reduce:
    return layouts[request.param]


@st.composite
def rows(draw: st.DrawFn) -> tuple[Layout, str, dict[str, Any]]:
    """A row of logits, most of them in ties, and any options."""
    name = draw(st.sampled_from(sorted(LAYOUTS)))
    layout = LAYOUTS[name]
    count = layout.vocab if layout.kept is None else len(layout.kept)
    ids = st.lists(st.integers(0, layout.vocab - 1), max_size=30)
    some = st.floats(-80, 80, width=32) if draw(st.booleans()) else st.integers(-3, 3).map(float)
    seen, suppressed = sorted(set(draw(ids))), draw(ids)
    chosen = {
        "logits": draw(hnp.arrays(np.float32, count, elements=some)),
        "seen": seen + seen[-1:] * draw(st.integers(0, 3)),
        "suppressed": suppressed[: count - 2] + suppressed[:1] * draw(st.integers(0, 3)),
        "penalty": draw(st.sampled_from([0.7, 1.0, 1.2, 2.0])),
        "temperature": draw(st.sampled_from([0.01, 0.1, 1.0, 1.5, 100.0])),
        "targets": draw(ids),
    }
    return layout, name, chosen


@given(case=rows())
@settings(max_examples=200)
def test_any_row_is_reduced_as_at_float64(layouts: dict[str, Reduce], case) -> None:
    layout, name, options = case
    ids = np.arange(layout.vocab) if layout.kept is None else np.array(layout.kept)
    raw, targets = options["logits"], options.pop("targets")
    found = layouts[name](**options, targets=targets)
    options.pop("logits")
    check_row(found, 0, reduced(raw, ids, **options), options["temperature"])
    expected = np.full(layout.vocab, -np.inf, np.float32)
    expected[ids] = raw
    np.testing.assert_array_equal(found["target_logits"][0], expected[targets])
    np.testing.assert_array_equal(found["logits"][0], raw)


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


def test_a_lead_of_200_leaves_nothing(reduce: Reduce) -> None:
    logits = np.zeros(VOCAB)
    logits[290] = 200
    found = reduce(logits, temperature=[0.01])
    assert found["top_ids"][0, :3].tolist() == [290, 0, 1]
    assert found["rest"][0] == found["rest_tempered"][0] == found["entropy"][0] == 0
    assert reduce(logits, temperature=100)["rest_tempered"][0] == pytest.approx((VOCAB - 1) * np.exp(-2), rel=1e-5)


def test_confidences_that_float32_cannot_tell_apart_keep_their_order(reduce: Reduce) -> None:
    """1 - 1e-9 and 1 - 1e-8 are both 1 in float32; what is left of them is not."""
    for second in (1, 16, 250):  # in the best token's group, in another, and in another part
        logits = np.full((2, VOCAB), -200.0)
        logits[:, 0], logits[0, second], logits[1, second] = 0, np.log(1e-9), np.log(1e-8)
        np.testing.assert_allclose(reduce(logits)["rest"], [1e-9, 1e-8], rtol=1e-5)
        penalised = reduce(logits * np.float32(0.5), seen=[0, second], penalty=2)
        np.testing.assert_allclose(penalised["rest"], [1e-9, 1e-8], rtol=1e-5)


def test_ties_put_the_lower_id_first_and_leave_out_one_token_alone(reduce: Reduce) -> None:
    found = reduce(np.zeros(VOCAB), temperature=0.5)
    assert found["top_ids"][0].tolist() == list(range(64))
    assert found["rest"][0] == pytest.approx(VOCAB - 1, rel=1e-6)
    assert found["rest_tempered"][0] == pytest.approx(VOCAB - 1, rel=1e-6)
    np.testing.assert_allclose(found["entropy"][0], np.log(VOCAB), rtol=1e-6)


def test_ties_across_the_borders_of_groups_and_parts(reduce: Reduce) -> None:
    """Parts have 128 columns where there are several, and groups 16."""
    best = [15, 16, 31, 32, 127, 128, 255, 256]
    logits = np.zeros(VOCAB)
    logits[best] = 1
    found = reduce(logits)["top_ids"][0]
    assert found.tolist() == [*best, *[i for i in range(VOCAB) if i not in best][:56]]
    seen = reduce(logits * 2, seen=[16, 128], penalty=2)["top_ids"][0]  # which makes theirs 1
    assert seen[:8].tolist() == [15, 31, 32, 127, 255, 256, 16, 128]


def test_seen_ids_join_those_that_they_equal_in_the_order_of_ids(reduce: Reduce) -> None:
    logits = np.ones(VOCAB)
    logits[[5, 190, 299]] = 2
    found = reduce(logits, seen=[5, 190, 299], penalty=2)
    assert found["top_ids"][0].tolist() == list(range(64))
    assert found["rest"][0] == pytest.approx(VOCAB - 1, rel=1e-6)


def test_ties_further_down(reduce: Reduce) -> None:
    assert reduce(np.arange(VOCAB) // 2)["top_ids"][0, :6].tolist() == [298, 299, 296, 297, 294, 295]


def test_the_lowest_and_the_highest_temperature(reduce: Reduce) -> None:
    logits = np.zeros((2, VOCAB))
    logits[:, :2] = 0.03, 0.02
    found = reduce(logits, temperature=[0.01, 100])
    expected = [np.exp(-1) + 298 * np.exp(-3), np.exp(-1e-4) + 298 * np.exp(-3e-4)]
    np.testing.assert_allclose(found["rest_tempered"], expected, rtol=1e-5)
    assert np.isfinite(found["entropy"]).all()


def test_penalty_divides_positive_and_multiplies_negative_logits_once_an_id(reduce: Reduce) -> None:
    logits = np.full(VOCAB, -50.0)
    logits[[3, 5, 7]] = 4, 3, -1
    found = reduce(logits, seen=[3, 7, 7, 7], penalty=2.0)
    assert found["top_ids"][0, :3].tolist() == [5, 3, 7]
    assert found["top_logits"][0, :3].tolist() == [3, 2, -2]
    assert found["rest"][0] == pytest.approx(np.exp(-1) + np.exp(-5), rel=1e-6)


def test_a_penalty_of_one_is_none_whatever_was_seen(reduce: Reduce) -> None:
    logits = np.random.default_rng(2).normal(size=(2, VOCAB)).astype(np.float32)
    for name, value in reduce(logits, seen=np.arange(VOCAB)).items():
        np.testing.assert_allclose(value, reduce(logits)[name], rtol=2e-6, err_msg=name)


def test_suppressed_ids_count_for_nothing_seen_or_not(reduce: Reduce) -> None:
    logits = np.full(VOCAB, -50.0)
    logits[[3, 5, 7, 120]] = 4, 3, 2, 1
    found = reduce(logits, seen=[3, 7], suppressed=[3, 120, 120], penalty=2.0)
    assert found["top_ids"][0, :2].tolist() == [5, 7]
    assert found["top_logits"][0, :2].tolist() == [3, 1]
    assert not {3, 120} & set(found["top_ids"][0].tolist())
    assert found["rest"][0] == pytest.approx(np.exp(-2), rel=1e-6)


def test_of_fewer_than_64_the_suppressed_come_last_each_once(layouts: dict[str, Reduce]) -> None:
    found = layouts["fewer than a group"](np.arange(9.0), seen=[2, 8, 8], suppressed=[8, 7, 8])
    assert found["top_ids"].tolist() == [[6, 5, 4, 3, 2, 1, 0, 7, 8]]
    assert (found["top_logits"][0, 7:] == SUPPRESSED).all()


def test_when_a_whole_part_is_seen_or_suppressed(layouts: dict[str, Reduce]) -> None:
    logits = np.random.default_rng(3).normal(size=VOCAB).astype(np.float32)
    part = list(range(128, 256))  # the second of three
    for options in ({"seen": part, "penalty": 1.5}, {"suppressed": part}, {"seen": part, "suppressed": part[1:]}):
        found = layouts["parts that do not divide it"](logits, temperature=0.3, **options)
        check_row(found, 0, reduced(logits, np.arange(VOCAB), temperature=0.3, **options))


def test_ids_that_an_output_vocabulary_lacks_are_neither_penalised_nor_suppressed_nor_known(
    layouts: dict[str, Reduce],
) -> None:
    kept = LAYOUTS["an output vocabulary"].kept
    logits = np.random.default_rng(4).normal(size=len(kept)).astype(np.float32)
    run, lacking = layouts["an output vocabulary"], [1, 3, 60]
    plain = run(logits, targets=[0, 1, MASK])
    assert plain["target_logits"][0, [0, 2]].tolist() == [logits[0], logits[kept.index(MASK)]]
    assert plain["target_logits"][0, 1] == -np.inf
    for options in ({"seen": lacking, "penalty": 2.0}, {"suppressed": lacking}):
        for name, value in run(logits, targets=[0, 1, MASK], **options).items():
            np.testing.assert_array_equal(value, plain[name], err_msg=name)


def test_targets_are_raw(reduce: Reduce) -> None:
    logits = np.random.default_rng(5).normal(size=(3, VOCAB)).astype(np.float32)
    targets = [7, 299, 0, 7, 100]
    found = reduce(logits, seen=[0, 7], suppressed=[100], penalty=3.0, temperature=0.2, targets=targets)
    np.testing.assert_array_equal(found["target_logits"], logits[:, targets])


def test_logits_that_are_not_wanted_are_of_no_rows(reduce: Reduce) -> None:
    found = reduce(np.zeros((3, VOCAB)), wants_logits=False)
    assert found["logits"].shape == (0, VOCAB)
    assert found["top_ids"].shape == (3, 64)


def test_raw_logits_are_raw(reduce: Reduce) -> None:
    logits = np.random.default_rng(6).normal(size=(2, VOCAB)).astype(np.float32)
    found = reduce(logits, seen=[0, 7, 299, 299], suppressed=[100, 7, 7], penalty=3.0)
    np.testing.assert_array_equal(found["logits"], logits)


def test_nothing_hangs_on_an_entropy_that_is_not_wanted(reduce: Reduce) -> None:
    logits = np.random.default_rng(7).normal(size=(2, VOCAB)).astype(np.float32)
    with_it, without = (reduce(logits, seen=[4], penalty=2.0, temperature=0.5, entropy=want) for want in (True, False))
    for name in set(Predictions._fields) - {"entropy"}:
        np.testing.assert_array_equal(with_it[name], without[name], err_msg=name)


@pytest.mark.parametrize("x", [0.0, 1e-30, 1e-9, 3e-8, 1e-4, 1.0, 255_999.0, 1e30])
def test_log1p(x: float) -> None:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23}, name="log1p")
    builder = GraphBuilder(graph)
    result = log1p(builder.op, builder.input("x", FLOAT, []))
    builder.add_output(result, "y")
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"x": np.array(x, np.float32)})
    np.testing.assert_allclose(found, np.log1p(x), rtol=3e-7)


# The layout of the columns


@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 1000, 31_999, 48_001, 256_000])
def test_parts_cover_the_columns(count: int) -> None:
    columns = Columns(count, None)
    assert columns.width % STEP == 0
    assert columns.padded >= count
    assert columns.padded - count < columns.parts * STEP
    assert list(columns.firsts) == [i * columns.width for i in range(columns.parts)]
    assert columns.rows == columns.padded


def test_the_real_vocabulary_is_divided_without_a_rest() -> None:
    columns = Columns(256_000, None)
    assert (columns.parts, columns.width, columns.padded) == (8, 32_000, 256_000)


def test_an_output_vocabulary_comes_first_and_all_others_behind_it() -> None:
    columns = Columns(10, np.array([1, 4, 7]))
    assert columns.order().tolist() == [1, 4, 7, 0, 2, 3, 5, 6, 8, 9]
    assert columns.places()[columns.order()].tolist() == list(range(10))
    assert (columns.count, columns.top, columns.rows) == (3, 3, 64)
