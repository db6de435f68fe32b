"""The fidelity card of quantized graphs: its figures by hand, and what it refuses."""

import dataclasses
import itertools

import numpy as np
import pytest

from diffutron_ort.errors import DiffutronWarning, FidelityError
from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort_export.check import canvases
from diffutron_ort_export.check.canvases import LENGTH, RATIOS, ROWS
from diffutron_ort_export.check.fidelity import DRAWS, Fp32Baseline
from diffutron_ort_export.check.rows import AT_ONCE, Rows, compare_rows, join
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.masking import CERTAIN, FAINT
from diffutron_ort_export.passages import PASSAGES
from diffutron_ort_export.variants import Job, Options, judge
from tests.export.conftest import TINY
from tests.export.rewriting import altered

MASK = 4


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(str(TINY / "checkpoint"))


def rows(same: list[int], lead: list[float], decided: list[int]) -> Rows:
    """Rows whose error is 1."""
    n = len(same)
    yes = np.ones(n, bool)
    return Rows(np.array(same, bool), np.array(lead), np.ones(n), np.array(decided, bool), np.zeros(n), yes)


def test_a_comparison_by_hand() -> None:
    expected = np.log(np.array([[0.7, 0.2, 0.1], [0.336, 0.332, 0.332]]))
    found = expected + np.array([[0, 0, 0.3], [0, 0.3, 0]])
    result = compare_rows(expected, found)
    assert result.same.tolist() == [True, False]
    np.testing.assert_allclose(result.lead, np.log([0.7 / 0.2, 0.336 / 0.332]))
    np.testing.assert_allclose(result.error, [0.3 / 3**0.5] * 2)
    assert result.decided.tolist() == [True, False]  # by 0.5, and by no more than DECIDED
    # Adding 0.3 to a logit of probability p takes log(1 + p (e^0.3 - 1)) from all logarithms and gives p its 0.3.
    p = np.array([0.1, 0.332])
    np.testing.assert_allclose(result.kl, np.log1p(p * np.expm1(0.3)) - 0.3 * p, rtol=1e-9)
    assert result.card() == {
        "rows": 2,
        "top1_agreement": 0.5,
        "clear_share": 0.5,
        "top1_agreement_clear": 1,
        "kl": pytest.approx(result.kl.mean()),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_logit_that_is_not_finite_is_wrong_and_its_figures_are_numbers(value: float) -> None:
    expected = np.array([[3.0, 1, 0], [3, 1, 0]])
    found = expected.copy()
    found[0, 2] = value
    result = compare_rows(expected, found)
    assert (result.same.tolist(), result.finite.tolist()) == ([False, True], [False, True])
    assert np.isfinite(result.kl).all()
    assert result.kl[0] > 2


@pytest.mark.parametrize(
    ("same", "lead", "decided", "agreement"),
    [
        # Asked are the decided rows whose lead is larger than the error, which is 1.
        ([1, 0, 0, 1], [3, 0.5, 3, 2], [1, 1, 0, 1], 1),
        ([1, 0, 0, 1], [3, 2, 3, 2], [1, 1, 0, 1], 2 / 3),
        # Fewer than half of the decided ones: then all of those.
        ([1, 0, 0, 1], [3, 0.5, 0.5, 3], [1, 1, 1, 0], 1 / 3),
        ([1, 0], [3, 0.5], [1, 1], 1),  # half is not fewer
        # Nothing is decided: asked are leads beyond nearly all errors, 2.83.
        ([1, 0, 1, 0], [3, 2.8, 4, 0.1], [0, 0, 0, 0], 1),
        ([1, 0], [3, 3], [0, 0], 0.5),
        ([1, 1], [0.1, 0.1], [0, 0], 0),  # nothing can be asked, so nothing is shown
    ],
)
def test_which_rows_are_asked_for_float32s_best_token(same, lead, decided, agreement: float) -> None:
    assert rows(same, lead, decided).agreement() == pytest.approx(agreement)


def test_comparisons_are_joined_row_by_row() -> None:
    both = join([rows([1], [2], [1]), rows([0, 1], [3, 4], [0, 1])])
    assert (both.same.tolist(), both.lead.tolist(), both.decided.tolist()) == ([1, 0, 1], [2, 3, 4], [1, 0, 1])


def test_many_rows_are_compared_as_a_few_are() -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal((2 * AT_ONCE + 1, 9))
    found = expected + random.standard_normal(expected.shape) / 3
    whole, parts = (
        compare_rows(expected, found),
        [compare_rows(*pair) for pair in zip(expected[:, None], found[:, None], strict=True)],
    )
    for name in ("same", "lead", "error", "decided", "kl", "finite"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(join(parts), name))


def test_canvases_of_every_ratio_fit_and_ask_for_masks(source: Source) -> None:
    made = canvases.canvases(source)
    assert [canvas.ratio for canvas in made] == [ratio for ratio in RATIOS for _ in PASSAGES]
    for canvas in made:
        assert 1 < canvas.ids.size <= LENGTH
        assert (canvas.ids[canvas.rows] == MASK).all()
        assert 1 <= canvas.rows.size <= ROWS
        assert (np.diff(canvas.rows) > 0).all()
    shares = [np.mean([(c.ids == MASK).mean() for c in made if c.ratio == ratio]) for ratio in RATIOS]
    np.testing.assert_allclose(shares, RATIOS, atol=0.08)  # three standard deviations of 384 draws


def test_passages_are_cut_to_a_short_context_and_questions_that_do_not_fit_are_left_out(source: Source) -> None:
    short = dataclasses.replace(source, shape=dataclasses.replace(source.shape, positions=40))
    assert max(canvas.ids.size for canvas in canvases.canvases(short)) == 40
    assert canvases.prompts(short, 32) == []
    assert len(canvases.prompts(source, 32)) == 4
    assert all(ids.size + 32 <= source.shape.positions for ids in canvases.prompts(source, 32))


def test_a_thorough_baseline_masks_each_passage_more_often(source: Source) -> None:
    quick, thorough = Fp32Baseline(source), Fp32Baseline(source, thorough=True)
    assert len(thorough.masked) == DRAWS * len(quick.masked)
    for one, other in zip(quick.masked, thorough.masked, strict=False):
        np.testing.assert_array_equal(one.ids, other.ids)
    again = thorough.masked[len(quick.masked)]
    assert again.ratio == RATIOS[0]
    assert (again.ids != thorough.masked[0].ids).any()


def test_masked_scores_are_seen_before_one_decides_how_to_mask(source: Source) -> None:
    """In canvases for single passes, a local layer of the real checkpoint sees all tokens; so one more is longer."""
    real = dataclasses.replace(source, shape=dataclasses.replace(source.shape, window=128))
    for some in (source, real):
        baseline = Fp32Baseline(some)
        assert canvases.long_canvas(some).ids.size > some.shape.window // 2 + 1
        assert baseline.masked_score == FAINT
        assert -50 < baseline.oracle.excess < 20
    loud = altered(source, lambda tensors: tensors["model.layers.1.attn.Wqkv.weight"].__imul__(np.float32(30)))
    baseline = Fp32Baseline(loud)
    assert baseline.masked_score == CERTAIN
    assert baseline.oracle.excess > 20


class Fake:
    """Float32's own logits, with a change."""

    batch_invariant = True

    def __init__(self, baseline: Fp32Baseline, change) -> None:
        self.logits, self.change = iter(baseline.logits), change

    def __call__(self, given: PassInput, /) -> Predictions:
        none = np.zeros(0)
        assert given.want_logits
        return Predictions(none, none, none, none, none, none, self.change(next(self.logits).copy()))


@pytest.fixture(scope="module")
def baseline(source: Source) -> Fp32Baseline:
    made = Fp32Baseline(source)
    one = np.eye(512)[np.arange(ROWS) * 7]  # peaked: each row's best token is known
    made.logits = [5 * one[: canvas.rows.size] for canvas in made.masked]
    return made


def test_each_ratio_is_compared_with_its_own_canvases(baseline: Fp32Baseline) -> None:
    count = itertools.count()
    swapped = lambda logits: logits[:, ::-1] if next(count) >= 2 * len(PASSAGES) else logits  # noqa: E731
    by_ratio = baseline.rows(Fake(baseline, swapped))
    assert [by_ratio[ratio].agreement() for ratio in RATIOS] == [1, 1, 0]


def test_logits_that_are_not_finite_are_refused_whatever_is_accepted(baseline: Fp32Baseline) -> None:
    def broken(logits):
        logits[0, 3] = np.nan
        return logits

    with pytest.raises(FidelityError, match=r"variant int8: 18 of \d+ rows have logits that are not finite"):
        baseline.card(baseline.rows(Fake(baseline, broken)), Fake(baseline, broken), "int8")


@pytest.mark.parametrize(
    ("agreement", "accept", "refused", "told"),
    [
        (0.98, False, False, False),
        (0.9799, False, False, True),
        (0.9, False, False, True),
        (0.899, False, True, False),
        (0.899, True, False, True),
        (0.0, True, False, True),
    ],
)
def test_a_miss_is_told_and_a_large_one_refused(
    baseline: Fp32Baseline, tmp_path, recwarn, agreement: float, accept: bool, refused: bool, told: bool
) -> None:
    job = Job("int8", tmp_path / "denoiser.onnx", {}, baseline, Options(accept=accept))
    if refused:
        with pytest.raises(
            FidelityError, match=r"89\.9% of the clear rows .* 98% is the target, 90% the least.*--accept"
        ):
            judge(job, agreement)
    else:
        judge(job, agreement)
    said = [str(warning.message) for warning in recwarn if warning.category is DiffutronWarning]
    assert len(said) == told
    assert all("variant int8" in text and "98% is the target" in text for text in said)
