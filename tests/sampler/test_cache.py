"""The cached pass: which tokens it computes, and against which keys and values; and adaptive commits."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort import Diffutron
from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.kv_cache import SequenceCache
from diffutron_ort.sampler.canvas import for_generation, for_infilling
from diffutron_ort.sampler.engine import Engine, denoise
from diffutron_ort.sampler.engine import run as run_all
from diffutron_ort.sampler.predict import predict
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort.sampler.sequence import Sequence
from diffutron_ort.types import SpecialIds
from tests.fakes import MASK, Caching, Says, invariant
from tests.golden.hash_model import HashModel
from tests.passes import predicted

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=MASK)
QUESTION = "On iki artı beş kaç eder?"
SHORT = {"max_new_tokens": 24, "steps": 24, "block_length": 12, "early_end": False}
SAME = 5e-5
"""Float32 rounding of the embedded model: half of what its logits are from transformers'."""


def run(prompts, forward, seed=0, **options):
    """Return the steps of each prompt, with a cache and one token a step unless told otherwise."""
    given_options = {"max_new_tokens": 8, "block_length": 4, "steps": 8, "temperature": 0.0, "cache": "block"}
    config = GenerationConfig(**(given_options | options))
    canvases = [for_generation(p, config.max_new_tokens, MASK, seed + i) for i, p in enumerate(prompts)]
    steps = list(denoise(forward, canvases, config, SPECIAL))
    return [[step for i, step in steps if i == row] for row in range(len(prompts))]


def caching():
    return Caching(HashModel(64, 3))


# Which passes are full


def test_the_first_pass_of_a_block_is_full_and_the_others_compute_the_block():
    model = caching()
    [steps] = run([[7, 8, 9]], model)
    assert [step.num_computed for step in steps] == [11, 4, 4, 4, 11, 4, 4, 4]
    assert [step.num_predicted for step in steps] == [4, 3, 2, 1, 4, 3, 2, 1]
    assert [batch.input_ids.shape for batch in model.batches] == [(1, step.num_computed) for step in steps]
    assert [batch.position_ids[0].tolist() for batch in model.batches[4:6]] == [[*range(11)], [7, 8, 9, 10]]
    assert model.batches[5].past.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1]]
    assert [batch.return_kv for batch in model.batches] == [True, False, False, False] * 2


@pytest.mark.parametrize(("refresh", "full"), [(0, [0]), (1, range(8)), (2, [0, 2, 4, 6]), (3, [0, 3, 6]), (9, [0])])
def test_a_cache_is_refreshed_after_so_many_steps(refresh, full):
    [steps] = run([[7, 8]], caching(), block_length=8, refresh_steps=refresh)
    assert [step.index for step in steps if step.num_computed == 10] == list(full)


@invariant
def hesitant(batch):
    """A model that halts between two tokens at every place from the fifth on; elsewhere it is sure."""
    raw = np.zeros((len(batch.rows), 16), np.float32)
    raw[:, 5] = 30
    raw[batch.rows > 4, 6] = 30
    return predicted(raw, batch, penalised=False)


@pytest.mark.parametrize(
    ("entropy", "computed"), [(0.0, [8, 6, 6, 6, 6, 6]), (0.69, [8, 6, 6, 6, 8, 8]), (0.7, [8, 6, 6, 6, 6, 6])]
)
def test_a_cache_is_refreshed_when_the_last_commit_was_in_doubt(entropy, computed):
    options = {"max_new_tokens": 6, "block_length": 6, "steps": 6, "refresh_entropy": entropy}
    [steps] = run([[7, 8]], Caching(hesitant), **options)  # ln 2 is 0.693
    assert [list(step.positions) for step in steps] == [[2], [3], [4], [5], [6], [7]]
    assert [step.num_computed for step in steps] == [8 if c == 8 else 6 for c in computed]


def test_the_largest_entropy_of_several_commits_counts():
    options = {"max_new_tokens": 6, "block_length": 6, "steps": 3, "refresh_entropy": 0.5}
    [steps] = run([[7, 8]], Caching(hesitant), **options)
    assert [list(step.positions) for step in steps] == [[2, 3], [4, 5], [6, 7]]
    assert [step.num_computed for step in steps] == [8, 6, 8]


def test_a_block_that_is_the_whole_canvas_keeps_nothing():
    model, config = caching(), GenerationConfig(cache="block", steps=3, block_length=4)
    [steps] = run([[]], model, block_length=8)
    steps += [step for _, step in denoise(model, [for_infilling([4, 4, 7, 4])], config, SPECIAL)]
    assert [step.num_computed for step in steps] == [8] * 8 + [4] * 3
    assert not any(batch.return_kv or batch.past for batch in model.batches)


def test_infilling_in_blocks_computes_the_block():
    canvas = for_infilling([4, 7, 4, 4, 8, 4])
    config = GenerationConfig(cache="block", steps=6, block_length=3)
    steps = [step for _, step in denoise(caching(), [canvas], config, SPECIAL)]
    assert [step.num_computed for step in steps] == [6, 3, 6, 3]


@pytest.mark.parametrize("options", [{"cache": "none"}, {"refresh_steps": 1}])
def test_nothing_is_kept_where_nothing_is_read(options):
    model = caching()
    run([[7, 8]], model, **options)
    assert not any(batch.return_kv or batch.past for batch in model.batches)


# What a cached pass computes and sees


def test_masks_left_over_are_computed_with_the_block_even_when_they_are_masks_no_more():
    model = Caching(Says(5, 9, 9, 7, 7, MASK, 7, 7, 8, 8, 8, 8))
    [steps] = run([[9, 9, 9]], model)
    assert [step.num_computed for step in steps] == [11, 4, 4, 4, 11, 5, 5, 5]
    assert steps[3].masks_left == 5  # `<mask>` itself was predicted at 5
    model = Caching(Says(5, 9, 9, 7, 7, 7, 7))
    [steps] = run([[MASK, 9, MASK]], model, max_new_tokens=4)
    assert [batch.position_ids[0].tolist() for batch in model.batches[1:]] == [[0, 2, 3, 4, 5, 6]] * 3
    assert [list(step.positions) for step in steps] == [[0], [2], [3], [4]]  # 0 goes on being computed


def test_a_draw_beyond_the_candidates_runs_the_same_pass_again():
    class Flat:
        batch_invariant = True

        def __init__(self, candidates):
            self.candidates = candidates

        def __call__(self, batch):
            return predicted(np.zeros((len(batch.rows), 400), np.float32), batch, self.candidates)

    options = {"temperature": 1.0, "repetition_penalty": 1.0, "max_new_tokens": 40, "block_length": 20, "steps": 40}
    few, all_of_them = Caching(Flat(64)), Caching(Flat(400))
    [steps], [same] = run([[7]], few, **options), run([[7]], all_of_them, **options)
    np.testing.assert_array_equal(steps[-1].ids, same[-1].ids)
    assert steps[-1].ids.max() > 64
    first, again, cached, *_ = few.batches
    assert (first.return_kv, again.return_kv) == (True, False)
    assert again.input_ids is first.input_ids
    assert cached.past is not None
    assert len(few.batches) == 41


def test_a_cached_pass_is_run_again_against_the_same_past():
    model, calls = Caching(HashModel(200, 3)), []

    @invariant
    def forgetful(batch):
        calls.append(batch)
        said = model(batch)
        unsure = len(calls) == 2 and not batch.want_logits  # a cached pass whose draw falls beyond
        return replace(said, rest_tempered=said.rest_tempered * 1e6) if unsure else said

    run([[7]], forgetful, temperature=0.1)
    assert [batch.past is None for batch in calls[:3]] == [True, False, False]
    assert calls[2].past is calls[1].past


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(3, 63), max_size=6), min_size=2, max_size=3),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([(), (5, 6, 9)]),
    st.integers(0, 2),
)
def test_each_sequence_of_a_list_equals_alone(prompts, scale, suppressed, refresh):
    options = {"temperature": 1.0, "cfg_scale": scale, "suppress_tokens": suppressed, "refresh_steps": refresh}
    model = caching()
    together = run(prompts, model, seed=3, **options)
    shared = [len(batch.input_ids) for batch in model.batches if batch.past]
    assert max(shared, default=0) == (0 if refresh == 1 else len(prompts))  # they share cached passes, too
    for i, prompt in enumerate(prompts):
        [alone] = run([prompt], caching(), seed=3 + i, **options)
        for a, b in zip(alone, together[i], strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_array_equal(a.confidence, b.confidence)
            assert (a.index, a.num_computed, a.num_predicted) == (b.index, b.num_computed, b.num_predicted)


def test_guidance_has_a_cache_for_each_of_its_canvases():
    model = caching()
    run([[7, 8, 9]], model, cfg_scale=0.5)
    given_tokens = [(b.past.caches[0].ids if b.past else b.input_ids[0])[:3].tolist() for b in model.batches]
    assert given_tokens == [[7, 8, 9], [MASK] * 3] * 8
    assert [batch.input_ids.shape[1] for batch in model.batches] == [11, 11, *[4] * 6] * 2


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_cache_is_released_before_it_is_replaced_and_when_its_sequence_ends(scale):
    model, alive = caching(), []

    @invariant
    def counting(batch):
        model.batches.clear()  # which hold what they read
        if batch.past is None:
            alive.append(len(model.alive))
        return model(batch)

    options = {"max_new_tokens": 8, "block_length": 4, "steps": 8, "cache": "block", "refresh_steps": 3}
    config = GenerationConfig(cfg_scale=scale, temperature=0.0, **options)
    sequences = (Sequence(for_generation(prompt, 8, MASK), config, SPECIAL) for prompt in ([7], [8, 9]))
    assert len(list(run_all(Engine(counting), sequences, 1))) == 16
    model.batches.clear()
    assert alive == ([0, 1] if scale else [0]) * 8  # two prompts of two blocks, each of which is refreshed once
    assert not model.alive


def test_a_model_that_keeps_nothing_cannot_be_run_with_a_cache():
    with pytest.raises(AssertionError, match="returns them"):
        run([[7]], HashModel(64, 3))


# Adaptive commits


@settings(max_examples=60)
@given(
    prompt=st.lists(st.integers(0, 6), max_size=6),
    rule=st.sampled_from(
        [
            {"commit": "factor", "commit_factor": 0.4},
            {"commit": "factor"},
            {"commit": "entropy"},
            {"commit": "entropy", "commit_entropy": 1.0},
        ]
    ),
    steps=st.integers(1, 20),
    block_length=st.integers(1, 14),
    cache=st.sampled_from(["none", "block"]),
    temperature=st.sampled_from([0.0, 0.5]),
)
def test_a_rule_never_takes_more_steps_than_the_schedule_which_is_its_floor(prompt, rule, steps, block_length, **more):
    options = {"max_new_tokens": 12, "steps": steps, "block_length": block_length} | more
    [by_rule] = run([prompt], Caching(HashModel(20, 5)), **options, **rule)
    blocks = -(-12 // block_length)
    for block in range(blocks):
        taken = [step for step in by_rule if step.block == block]
        floor = commit_counts(min(block_length, 12 - block * block_length), -(-steps // blocks))
        assert len(taken) <= len(floor)
        assert all(
            len(step.positions) >= min(least, step.num_predicted) for step, least in zip(taken, floor, strict=False)
        )
        rest = taken[-1].ids[: len(prompt) + (block + 1) * block_length]
        assert len(taken) == len(floor) or not (rest == MASK).any()  # it ends early where nothing is left


@pytest.mark.parametrize(
    ("rule", "commits"),
    [
        ({}, [1, 1, 1, 1]),
        ({"commit": "entropy", "commit_entropy": 0.1}, [3, 1]),  # ln 2 of the second, the first being the largest
        ({"commit": "entropy", "commit_entropy": 0.7}, [4]),
        ({"commit": "factor", "commit_factor": 0.9}, [2, 1, 1]),  # 2 / 2 of the next
        ({"commit": "factor", "commit_factor": 2.1}, [3, 1]),  # 4 / 2 and 5 / 2
    ],
)
def test_what_is_sure_is_committed_at_once(rule, commits):
    """Two tokens are sure, two as good as another one: confidences 1, 1, 1/2, 1/2, entropies 0, 0, ln 2, ln 2."""

    @invariant
    def says(batch):
        raw = np.zeros((len(batch.rows), 16), np.float32)
        raw[:, 5] = 30
        raw[batch.rows >= 3, 6] = 30
        return predicted(raw, batch, penalised=False)

    options = {"max_new_tokens": 4, "steps": 4, "cache": "none", "repetition_penalty": 1.0}
    [steps] = run([[7]], says, **options, **rule)
    assert [len(step.positions) for step in steps] == commits


# The embedded model


@pytest.fixture
def spy(model):
    """The embedded model, whose batches and predictions are noted."""
    calls = []

    @invariant
    def forward(batch):
        said = model.forward(batch)
        calls.append((batch, said))
        return said

    return Diffutron(model.bundle, model.tokenizer, forward), calls


@pytest.mark.parametrize("scale", [0.0, 0.5])
@pytest.mark.parametrize("prompt", ["Bugün salı.", "Bugün <mask> iki <mask>."])
def test_a_cached_pass_of_an_unchanged_canvas_is_the_full_pass(spy, scale, prompt):
    model, calls = spy
    ids, _ = model.tokenizer.encode_masked(prompt)
    config = model.config(cache="block", cfg_scale=scale, suppress_tokens=(9,))
    canvas = for_generation(ids, 64, MASK)
    plan = replace(Sequence(canvas, config, model.bundle.special).plan(), wants_logits=True)
    [full] = predict(model.forward, [plan])
    changing = np.union1d(plan.positions, np.arange(len(ids), len(ids) + 32))
    [cached] = predict(model.forward, [replace(plan, computed=changing, kv=full.kv, return_kv=False)])
    pairs = len(calls) // 2
    assert pairs == (2 if scale else 1)
    for (whole, everything), (part, little) in zip(calls[:pairs], calls[pairs:], strict=True):
        assert whole.input_ids.shape == (1, canvas.length)
        assert part.input_ids.shape == (1, 32 + prompt.count("<mask>"))
        assert np.abs(everything.logits - little.logits).max() < SAME
    np.testing.assert_array_equal(full.positions, cached.positions)
    np.testing.assert_array_equal(full.tokens, cached.tokens)


def test_refreshing_at_every_step_is_no_cache_bit_for_bit(model):
    for options in ({"temperature": 1.0, "seed": 5}, {"cfg_scale": 0.5}, {"commit": "factor"}):
        exact = list(model.stream(QUESTION, **SHORT, **options))
        refreshed = list(model.stream(QUESTION, cache="block", refresh_steps=1, **SHORT, **options))
        for a, b in zip(exact, refreshed, strict=True):
            for name, value in vars(a).items():
                if name != "_reader":
                    np.testing.assert_array_equal(getattr(b, name), value, err_msg=name)


def test_a_pass_that_keeps_says_what_one_says_that_does_not(model):
    config = model.config(cache="block", block_length=4)
    plan = Sequence(for_generation([20, 21, 22], 8, MASK), config, model.bundle.special).plan()
    [keeps], [does_not] = predict(model.forward, [plan]), predict(model.forward, [replace(plan, return_kv=False)])
    assert isinstance(keeps.kv.conditional, SequenceCache)
    assert does_not.kv is None
    np.testing.assert_array_equal(keeps.odds_against, does_not.odds_against)


def test_keys_and_values_stay_in_onnxruntimes_memory(spy, monkeypatch):
    model, calls = spy
    numpy = ort.OrtValue.numpy

    def small(value):
        assert len(value.shape()) < 3, "keys or values are copied to numpy"
        return numpy(value)

    bind = ort.IOBinding.bind_cpu_input

    def no_past(binding, name, array):
        assert not name.startswith(("past_key", "past_value")), "keys or values are copied from numpy"
        bind(binding, name, array)

    monkeypatch.setattr(ort.OrtValue, "numpy", small)
    monkeypatch.setattr(ort.IOBinding, "bind_cpu_input", no_past)
    monkeypatch.setattr(ort.IOBinding, "copy_outputs_to_cpu", lambda _: pytest.fail("every output is copied"))
    model.generate(QUESTION, cache="block", refresh_steps=4, temperature=1.5, **SHORT)
    last, read = None, 0
    for batch, said in calls:
        if batch.past:
            assert batch.past.caches == [last]
            read += 1
        if batch.return_kv:
            [last] = said.kv_caches
            values = [value for layer in last.store.layers for value in layer]
            assert all(isinstance(value, ort.OrtValue) for value in values)
            assert [value.shape() for value in values] == [[1, batch.input_ids.shape[1], 256]] * 2 * 6
        else:
            assert said.kv_caches is None
    assert read >= 18


@pytest.fixture
def fetched(monkeypatch):
    """The names of the outputs that passes fetch."""
    names, bind = [], ort.IOBinding.bind_output
    monkeypatch.setattr(ort.IOBinding, "bind_output", lambda b, name, *a: names.append(name) or bind(b, name, *a))
    return names


def test_keys_and_values_are_fetched_where_they_are_kept_alone(model, fetched):
    steps = list(model.stream(QUESTION, cache="block", **SHORT))
    assert fetched.count("top_ids") == len(steps) == 24
    for layer in range(6):
        assert fetched.count(f"key.{layer}") == fetched.count(f"value.{layer}") == 2


def test_without_a_cache_no_more_is_fetched_than_is_read(model, fetched):
    model.generate(QUESTION, max_new_tokens=8, steps=2)
    assert set(fetched) == {"top_ids", "top_logits", "rest", "rest_tempered", "entropy", "target_logits"}


@pytest.mark.parametrize("options", [{}, {"refresh_steps": 4}, {"commit": "factor"}, {"commit": "entropy"}])
def test_it_answers_with_a_cache(model, options):
    assert model.generate(QUESTION, cache="block", **options) == "on yedi"


def test_a_list_is_answered_as_each_would_be_alone(model):
    questions, options = [QUESTION, "kitap sözcüğünün çoğulu nedir?", "x"], {"cache": "block", "temperature": 1.0}
    alone = [model.generate(q, seed=3 + i, **SHORT, **options) for i, q in enumerate(questions)]
    assert model.generate(questions, seed=3, **SHORT, **options) == alone


def test_the_fast_preset_takes_fewer_steps(model):
    fast, short = (list(model.stream(QUESTION, preset=name)) for name in ("fast", "short"))
    assert fast[-1].text == short[-1].text == "on yedi"
    assert 8 * len(fast) <= len(short)


def test_fill_takes_a_cache_where_the_text_has_blocks(model):
    text = "Bir <mask> iki <mask> üç <mask> dört."
    assert model.fill(text, cache="block") == model.fill(text)
    assert "<mask>" not in model.fill(text, cache="block", block_length=4, steps=8)
