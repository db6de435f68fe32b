"""The whole of generation as one graph gives what the loop gives, token for token."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, ContextError, InputError, OptionError
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.sampler import sampling
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.text.stopping import Ends
from tests.bundle.test_load import edit_manifest
from tests.fakes import Ending

QUESTIONS = ["On iki artı beş kaç eder?", "Ters sırala: kitap, deniz, okul, elma", "neresi", "."]
OPTIONS = st.fixed_dictionaries(
    {
        "max_new_tokens": st.integers(1, 48),
        "steps": st.sampled_from([1, 2, 7, 20, 48, 64]),
        "block_length": st.sampled_from([1, 5, 16, 32, 100]),
        "temperature": st.sampled_from([0.0, 0.01, 0.1, 1.0, 3.0]),
        "repetition_penalty": st.sampled_from([0.7, 1.0, 1.2, 2.0]),
        "seed": st.integers(0, 2**64 - 1),
    }
)


@cache
def both(variant):
    model = Diffutron.from_pretrained(variant=variant)
    return model, Generation(model.bundle, variant)


def check(model, generation, prompt_ids, config):
    """Compare the graph's answer with the loop's."""
    special = model.bundle.special
    ends = Ends(special, [ids for _, ids in model.bundle.stop_sequences])
    canvas = for_generation(prompt_ids, config.max_new_tokens, special.mask, config.seed)
    *_, (_, last) = denoise(model.forward, [canvas], config, special, Ending(ends))
    found = generation(prompt_ids, config)
    length = canvas.start + found.answer_length
    np.testing.assert_array_equal(found.ids[:length], last.ids[:length])
    assert not found.ids[length:].any()  # <pad>
    assert found.steps_taken == last.index + 1


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@given(question=st.sampled_from(QUESTIONS), template=st.booleans(), options=OPTIONS)
@settings(max_examples=40)
def test_the_graph_gives_what_the_loop_gives(variant, question, template, options):
    model, generation = both(variant)
    config = model.config(**options)
    prompt = model._prompts.canvas(question, template, config)
    check(model, generation, prompt.ids[: prompt.start].tolist(), config)


def test_draws_beyond_the_candidates_are_among_them(monkeypatch):
    """At this temperature most draws are; else the tests above would show less than they say."""
    beyond = []
    original = sampling.draw_beyond
    monkeypatch.setattr(sampling, "draw_beyond", lambda *a: beyond.append(1) or original(*a))
    model, generation = both("fp32")
    for penalty in (1.0, 2.0):
        config = model.config(max_new_tokens=16, steps=16, temperature=3.0, repetition_penalty=penalty, seed=5)
        check(model, generation, [1895, 272], config)
    assert len(beyond) > 16


@pytest.mark.parametrize("prompt", [[], [4], [4, 1895, 4, 4], [0, 1, 2, 3]])
def test_prompts_may_be_empty_and_hold_masks_and_control_tokens(prompt):
    """The temperature is high since positions of a canvas of masks alone are equal but for what is drawn there."""
    model, generation = both("fp32")
    config = model.config(max_new_tokens=12, steps=5, block_length=4, temperature=10.0, repetition_penalty=1.5)
    check(model, generation, prompt, config)


def test_the_answer_ends_where_its_stop_sequence_begins_or_at_pad_or_eos(model):
    generation = both("fp32")[1]
    prompt = model._prompts.canvas(QUESTIONS[0], True, model.config())
    ids = prompt.ids[: prompt.start].tolist()
    found = generation(ids, model.config())
    answer = found.ids[prompt.start : prompt.start + found.answer_length].tolist()
    assert model.tokenizer.decode(answer).strip() == "on yedi"
    [(_, stop)] = model.bundle.stop_sequences
    assert stop not in [tuple(answer[i : i + len(stop)]) for i in range(len(answer))]
    assert found.steps_taken < 64


def test_options_that_the_graph_has_not_are_refused_by_name():
    model, generation = both("fp32")
    with pytest.raises(OptionError, match="cache, refresh_steps, commit"):
        generation([5], model.config("fast"))
    for option in ({"cfg_scale": 1.0}, {"schedule": "cosine"}, {"stop": "a"}, {"remasking": "random"}):
        with pytest.raises(OptionError, match=next(iter(option))):
            generation([5], model.config(**option))


@pytest.mark.parametrize(("prompt", "new"), [([5, 6, 7], 2**31 - 1), ([5] * 253, 4), ([5] * 10**5, 1)])
def test_what_is_longer_than_the_context_is_refused_before_anything_of_that_size_is_made(prompt, new):
    with pytest.raises(ContextError, match=f"{len(prompt)} tokens of prompt and {new} new ones .* context is 256"):
        both("fp32")[1](prompt, GenerationConfig(max_new_tokens=new))


@pytest.mark.parametrize("prompt", [[-1], [2023], [2**70], [1.5], ["a"], "abc", [[1]], [None]])
def test_what_are_no_ids_is_refused(prompt):
    with pytest.raises(InputError, match="must be token ids, integers from 0 to 2022"):
        both("fp32")[1](prompt, GenerationConfig(max_new_tokens=4))


def test_a_bundle_without_the_graph_says_so(broken):
    edit_manifest(broken, lambda manifest: manifest["variants"]["fp32"].pop("generate"))
    with pytest.raises(BundleError, match="no generation graph"):
        Generation(load_bundle(broken))


def test_it_shares_the_weights_and_adds_little(model):
    for variant in model.bundle.variants.values():
        assert 0 < model.bundle.files[variant.generate].size < 2e6
    assert sum(name.endswith(".data") for name in model.bundle.files) == len(model.bundle.variants)
