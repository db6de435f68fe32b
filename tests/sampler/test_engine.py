import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import NumericsError
from diffutron_ort.runtime.contract import Predictions
from diffutron_ort.sampler.canvas import for_generation, for_infilling
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.text.stopping import Ends
from diffutron_ort.types import SpecialIds
from tests.fakes import Ending, invariant
from tests.golden.hash_model import HashModel
from tests.passes import pass_input, predicted

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)
VOCAB = 90  # more than the 64 candidates


def run(prompts, forward=None, reader=None, first_seed=0, **options):
    """Return the steps of each prompt."""
    config = GenerationConfig(**({"max_new_tokens": 12, "block_length": 5, "steps": 12} | options))
    canvases = [
        for_generation(prompt, config.max_new_tokens, SPECIAL.mask, config.seed + first_seed + i)
        for i, prompt in enumerate(prompts)
    ]
    steps = list(denoise(forward or HashModel(VOCAB, 1), canvases, config, SPECIAL, reader))
    return [[step for i, step in steps if i == row] for row in range(len(prompts))]


prompt = st.lists(st.integers(5, VOCAB - 1), max_size=8)
options = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 20),
        "max_new_tokens": st.integers(1, 14),
        "block_length": st.integers(1, 16),
        "temperature": st.sampled_from([0.0, 0.1, 1.0]),
        "repetition_penalty": st.sampled_from([1.0, 1.2]),
        "remasking": st.sampled_from(["low_confidence", "random"]),
        "stochastic_transfer": st.booleans(),
        "cfg_scale": st.sampled_from([0.0, 0.7]),
        "schedule": st.sampled_from(["linear", "cosine"]),
        "seed": st.integers(0, 2**40),
    }
)


@settings(max_examples=40)
@given(st.lists(prompt, min_size=2, max_size=4), options)
def test_a_row_of_a_batch_yields_what_it_yields_alone(prompts, given_options):
    together = run(prompts, **given_options)
    for i, one in enumerate(prompts):
        [alone] = run([one], first_seed=i, **given_options)
        assert len(alone) == len(together[i])
        for a, b in zip(alone, together[i], strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.confidence, b.confidence)
            assert (a.index, a.block, a.masks_left) == (b.index, b.block, b.masks_left)


@settings(max_examples=40)
@given(prompt, options)
def test_the_prompt_and_committed_tokens_never_change(one, given_options):
    [steps] = run([one], **given_options)
    before = np.array([*one, *[SPECIAL.mask] * given_options["max_new_tokens"]])
    for index, step in enumerate(steps):
        changed = np.flatnonzero(step.ids != before)
        assert set(changed) <= set(step.positions)
        assert (before[step.positions] == SPECIAL.mask).all()
        assert step.index == index
        assert step.masks_left == (step.ids == SPECIAL.mask).sum()
        before = step.ids


@settings(max_examples=40)
@given(prompt, options)
def test_every_place_is_committed_once_unless_as_a_mask(one, given_options):
    [steps] = run([one], **given_options)
    assert sum(len(step.positions) for step in steps) == given_options["max_new_tokens"]
    again = [p for step in steps for p in step.positions if step.ids[p] != SPECIAL.mask]
    assert len(set(again)) == len(again)


@given(prompt, st.integers(0, 2**64 - 1))
@settings(max_examples=20)
def test_temperature_0_ignores_the_seed(one, seed):
    [a], [b] = run([one], temperature=0.0), run([one], temperature=0.0, seed=seed)
    np.testing.assert_array_equal(a[-1].ids, b[-1].ids)


def test_another_seed_draws_another_text():
    texts = {tuple(run([[7]], temperature=1.0, seed=seed)[0][-1].ids) for seed in range(5)}
    assert len(texts) == 5


def test_random_remasking_has_another_order_and_every_seed_its_own():
    orders = [
        [tuple(step.positions) for step in run([[7]], temperature=0.0, remasking="random", seed=seed)[0]]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [tuple(step.positions) for step in run([[7]], temperature=0.0)[0]]


class Fake:
    """A model that says one thing for every row, and counts its passes."""

    batch_invariant = True

    def __init__(self, logits, candidates=64):
        self.row, self.candidates = np.array(logits, np.float32), candidates
        self.passes, self.rows, self.fetched = 0, [], 0

    def __call__(self, batch):
        self.passes += 1
        self.rows.append(batch.rows)
        self.fetched += batch.want_logits
        raw = np.tile(self.row, (len(batch.rows), 1))
        assert len(batch.input_ids) == 1
        return predicted(raw, batch, self.candidates)


def test_only_candidate_rows_are_asked_for_once_a_step():
    fake = Fake([0, 0, 0, 0, 0, 3, 1])
    run([[5, 6]], fake, max_new_tokens=4, block_length=2, steps=4, temperature=0.0)
    assert [list(rows) for rows in fake.rows] == [[2, 3], [3], [4, 5], [5]]


def test_commits_are_ordered_where_float32_knows_one_confidence_alone():
    @invariant
    def sure(batch):
        raw = np.zeros((len(batch.rows), 8), np.float32)
        raw[:, 5] = 30 + batch.rows  # confidences of 1 - 1e-12 and less: the later, the surer
        return predicted(raw, batch, penalised=False)

    [steps] = run([[6]], sure, max_new_tokens=4, block_length=4, steps=4, temperature=0.0)
    assert [list(step.positions) for step in steps] == [[4], [3], [2], [1]]


@pytest.mark.parametrize("suppressed", [(), tuple(range(70, 80))])
def test_confidence_is_the_probability_of_the_token_that_was_drawn_beyond_the_candidates_too(suppressed):
    model, before, beyond = HashModel(VOCAB, 9), for_generation([7], 30, SPECIAL.mask).ids, 0
    options = {"temperature": 50.0, "repetition_penalty": 1.0, "max_new_tokens": 30, "steps": 30, "remasking": "random"}
    for step in run([[7]], model, suppress_tokens=suppressed, **options)[0]:
        positions = np.arange(len(before))
        raw = model.logits(pass_input(before[None], positions[None], step.positions))
        raw[:, list(suppressed)] = -np.inf
        wide = np.exp(raw.astype(np.float64))
        token = step.ids[step.positions]
        np.testing.assert_allclose(step.confidence, wide[0, token] / wide.sum(), rtol=1e-5)
        beyond += token.item() not in np.argsort(-raw[0], kind="stable")[:64]
        assert token.item() not in suppressed
        before = step.ids
    assert beyond > 0


def test_ties_go_to_the_lowest_position():
    [steps] = run([[5]], Fake([0, 0, 0, 0, 0, 3, 1]), max_new_tokens=3, block_length=3, steps=3, temperature=0.0)
    assert [list(step.positions) for step in steps] == [[1], [2], [3]]


def test_repetition_penalty_spares_mask_eos_and_the_exempt():
    row = [0, 2.0, 0, 0, 2.1, 2.2, 2.3]  # <eos> 1, <mask> 4, and two pieces
    for seen, exempt, expected in [([5, 6], (), 4), ([5, 6], (6,), 6), ([5, 6, 1], (), 4)]:
        options = {"max_new_tokens": 1, "temperature": 0.0, "repetition_penalty": 2.0, "penalty_exempt": exempt}
        assert run([seen], Fake(row), **options)[0][-1].ids[-1] == expected


def test_pad_is_penalised_as_in_the_reference():
    options = {"max_new_tokens": 2, "block_length": 2, "temperature": 0.0, "repetition_penalty": 2.0}
    [steps] = run([[5]], Fake([1.5, 0, 0, 0, 0, 0, 1.0]), **options)
    np.testing.assert_array_equal(steps[-1].ids, [5, 0, 6])


def test_suppressed_tokens_are_never_chosen():
    [steps] = run([[7]], temperature=1.0, suppress_tokens=tuple(range(5, 80)))
    assert not set(range(5, 80)) & set(steps[-1].ids[1:].tolist())


def test_guidance_is_the_formula():
    class Pair(Fake):
        def __call__(self, batch):
            raw = np.where(
                batch.input_ids[0, 0] == SPECIAL.mask, [[0, 0, 0, 0, 0, 1.0, 1.5]], [[0, 0, 0, 0, 0, 2.0, 2.4]]
            )
            self.passes += 1
            return predicted(raw.astype(np.float32), batch, penalised=False)

    for scale, token, passes in [(0.0, 6, 1), (0.5, 6, 2), (5.0, 5, 2)]:  # 1.5 + 6 * 0.9 < 1 + 6 * 1
        model = Pair([])
        options = {"max_new_tokens": 1, "temperature": 0.0, "repetition_penalty": 1.0}
        assert run([[6]], model, cfg_scale=scale, **options)[0][-1].ids[-1] == token
        assert model.passes == passes


def test_a_draw_beyond_the_candidates_uses_the_whole_row():
    flat = np.zeros(400)
    few, all_of_them = (Fake(flat, candidates) for candidates in (64, 400))
    options = {"temperature": 1.0, "repetition_penalty": 1.0, "max_new_tokens": 40, "block_length": 40, "steps": 40}
    [steps], [same] = run([[7]], few, **options), run([[7]], all_of_them, **options)
    np.testing.assert_array_equal(steps[-1].ids, same[-1].ids)  # ids ascend among equals, so both walks are one
    assert steps[-1].ids.max() > 64
    assert few.passes == 41  # the first pass alone had to be run again: from then on logits are fetched at once
    assert all_of_them.fetched == 0


def test_suppression_needs_no_logits_but_for_a_draw_beyond_the_candidates():
    options = {"temperature": 1.0, "repetition_penalty": 1.0, "max_new_tokens": 40, "block_length": 40, "steps": 40}
    few, all_of_them, none_beyond = Fake(np.zeros(400)), Fake(np.zeros(400), 400), Fake(np.zeros(400))
    odd = tuple(range(1, 400, 2))
    [steps], [same] = (run([[7]], model, suppress_tokens=odd, **options) for model in (few, all_of_them))
    np.testing.assert_array_equal(steps[-1].ids, same[-1].ids)
    assert not (steps[-1].ids[1:] % 2).any()
    assert steps[-1].ids.max() > 128  # beyond the first 64 even ids
    [steps] = run([[7]], none_beyond, suppress_tokens=range(1, 399), **options)
    assert set(steps[-1].ids[1:].tolist()) == {0, 399}
    assert (few.fetched, all_of_them.fetched, none_beyond.fetched) == (40, 0, 0)


def test_no_logits_are_fetched_while_the_candidates_hold_nearly_all_mass():
    fake = Fake([0] * 399 + [50])
    run([[7]], fake, temperature=0.1)
    assert fake.fetched == 0


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error_naming_the_step(value, temperature):
    @invariant
    def broken(batch):
        n = len(batch.rows)
        ok = np.full(n, 0.5)
        top = np.tile(np.float32([value if batch.input_ids[0, 1] != SPECIAL.mask else 1.0]), (n, 1))
        return Predictions(np.full((n, 1), 7), top, ok, ok, ok, top[:, :0])

    with pytest.raises(NumericsError, match="step 1 of block 0"):
        run([[7]], broken, temperature=temperature)


def test_a_sequence_that_has_ended_leaves_and_shows_the_same():
    ends = Ends(SPECIAL, [])
    model = HashModel(8, 5)  # few pieces, so that ends are common
    prompts = [[5, 6, 7, 5][:n] for n in (1, 2, 3, 4)]
    whole, cut = (run(prompts, model, reader, max_new_tokens=30) for reader in (None, Ending(ends)))
    assert sum(map(len, cut)) < sum(map(len, whole))
    for a, b in zip(whole, cut, strict=True):
        whole_span, cut_span = a[-1].ids[a[-1].start :], b[-1].ids[b[-1].start :]
        assert ends.has_ended(cut_span)
        np.testing.assert_array_equal(ends.answer(whole_span), ends.answer(cut_span))


def test_infilling_changes_nothing_but_masks():
    config = GenerationConfig(steps=4, block_length=7, temperature=0.0, repetition_penalty=1.0)
    canvas = for_infilling([7, 4, 9, 4, 11, 4, 4])
    steps = [step for _, step in denoise(HashModel(VOCAB, 2), [canvas], config, SPECIAL)]
    kept = canvas.ids != SPECIAL.mask
    np.testing.assert_array_equal(steps[-1].ids[kept], canvas.ids[kept])
    assert [len(step.positions) for step in steps] == [1, 1, 1, 1]
