import dataclasses
import itertools
import math
import time

import numpy as np
import pytest

from diffutron_ort.brief import brief
from diffutron_ort.config import PRESET_OPTIONS, PRESETS, GenerationConfig, preset
from diffutron_ort.errors import DiffutronError, OptionError


def test_presets_are_the_model_cards():
    short, long = preset("short"), preset("long")
    assert (short.steps, short.max_new_tokens, short.block_length) == (64, 64, 32)
    assert (long.steps, long.max_new_tokens, long.block_length) == (128, 128, 32)
    for card in (short, long):
        assert (card.temperature, card.repetition_penalty, card.cfg_scale) == (0.1, 1.2, 0.0)
        assert (card.remasking, card.stochastic_transfer, card.schedule) == ("low_confidence", False, "linear")
        assert (card.seed, card.stop, card.early_end) == (0, (), True)
        assert (card.cache, card.commit) == ("none", "schedule")
    assert GenerationConfig() == PRESETS["short"]


def test_fast_is_short_with_a_cache_and_early_commits():
    changed = {"cache": "block", "refresh_steps": 4, "commit": "factor", "commit_factor": 0.01}
    assert preset("fast") == preset("short").replace(**changed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("steps", "max_new_tokens", "block_length")
            for value in (0, -1, 1.5, None, True, "8")
        ),
        *(("temperature", value) for value in (-0.1, math.nan, math.inf, 0.009, 1e-300, None, "hot", True)),
        *(("repetition_penalty", value) for value in (0, -1.2, math.nan, math.inf, None)),
        *(("cfg_scale", value) for value in (-0.5, math.nan, math.inf)),
        *(("seed", value) for value in (-1, 2**64, 0.5, True)),
        *(("remasking", value) for value in ("low_conf", "", None, 1)),
        *(("schedule", value) for value in ("quadratic", None)),
        *(("cache", value) for value in ("prefix", "", None, True)),
        *(("commit", value) for value in ("threshold", "", None)),
        *(("refresh_steps", value) for value in (-1, 0.5, True, None, 2**17)),
        *(
            (name, value)
            for name in ("refresh_entropy", "commit_factor", "commit_entropy")
            for value in (-0.1, math.nan, math.inf, "1", None, True)
        ),
        *((name, value) for name in ("stochastic_transfer", "early_end") for value in (1, 0, None, "yes")),
        *(
            (n, v)
            for n in ("cfg_keep_tokens", "suppress_tokens", "penalty_exempt")
            for v in ("12", 3, [-1], [1.5], ["a"])
        ),
        *(("stop", value) for value in ("", [""], [3], 5, [None])),
    ],
)
def test_a_value_without_a_meaning_is_refused_by_name(name, value):
    with pytest.raises(OptionError, match=f"^{name}="):
        GenerationConfig(**{name: value})


OPTIONS = {spec.name: spec for spec in dataclasses.fields(GenerationConfig)}


def test_every_option_says_what_it_does_and_what_it_may_be():
    for spec in OPTIONS.values():
        assert len(spec.metadata["help"]) > 20, spec.name
        bounds = (spec.metadata["least"], spec.metadata["most"])
        assert (None in bounds) is (spec.type in (bool, str, tuple[str, ...])), spec.name
        assert (spec.metadata["choices"] is not None) is (spec.type is str), spec.name


@pytest.mark.parametrize("name", [name for name, spec in OPTIONS.items() if spec.metadata["least"] is not None])
def test_the_bounds_of_an_option_are_its_metadatas(name):
    spec = OPTIONS[name]
    least, most, is_list = spec.metadata["least"], spec.metadata["most"], spec.type == tuple[int, ...]

    def given(value):
        found = getattr(GenerationConfig(**{name: [value] if is_list else value}), name)
        return found[0] if is_list else found

    assert [given(least), given(most)] == [least, most]
    for value in (np.nextafter(least, -1), most * 2, least - 1, most + 1, -math.inf, math.inf):
        with pytest.raises(OptionError, match=f"^{name}=.*from {least:g} to"):
            given(value)
    if spec.metadata["or_zero"]:
        assert given(0) == given(-0.0) == 0


@pytest.mark.parametrize("name", [name for name, spec in OPTIONS.items() if spec.metadata["choices"]])
def test_the_choices_of_an_option_are_its_metadatas(name):
    choices = OPTIONS[name].metadata["choices"]
    assert [getattr(GenerationConfig(**{name: choice}), name) for choice in choices] == list(choices)
    with pytest.raises(OptionError, match=f"^{name}='other': must be one of {', '.join(map(repr, choices))}$"):
        GenerationConfig(**{name: "other"})


@pytest.mark.parametrize("rule", ["factor", "entropy"])
def test_the_surest_are_not_counted_where_random_ones_are_committed(rule):
    with pytest.raises(OptionError, match=f"^commit='{rule}'.*remasking='random'.*choose commit='schedule'"):
        GenerationConfig(commit=rule, remasking="random")
    with pytest.raises(OptionError, match="remasking='random'"):
        preset("fast").replace(remasking="random")
    assert preset("fast").replace(remasking="random", commit="schedule").cache == "block"


def test_errors_are_of_the_family_and_of_the_fitting_builtin():
    for kind in (DiffutronError, ValueError):
        with pytest.raises(kind):
            GenerationConfig(steps=0)


def test_values_are_normalised():
    config = GenerationConfig(steps=np.int64(7), temperature=1, stop="dur", suppress_tokens=[np.int32(5), 6])
    assert (config.steps, config.temperature, config.stop, config.suppress_tokens) == (7, 1.0, ("dur",), (5, 6))
    assert type(config.steps) is int
    assert type(config.temperature) is float


def test_replace_knows_every_option_and_no_other():
    assert GenerationConfig().replace(seed=5).seed == 5
    with pytest.raises(OptionError, match="unknown option 'temprature'.*temperature"):
        GenerationConfig().replace(temprature=0.5)
    with pytest.raises(OptionError, match="steps=0"):
        GenerationConfig().replace(steps=0)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationConfig().steps = 3


def test_an_unknown_preset_is_refused():
    with pytest.raises(OptionError, match="preset='medium'.*'short', 'long', 'fast'"):
        preset("medium")


def test_a_preset_sets_what_it_is_about_and_leaves_the_rest_to_the_bundle():
    assert (
        PRESET_OPTIONS["short"].keys() == PRESET_OPTIONS["long"].keys() == {"steps", "max_new_tokens", "block_length"}
    )
    assert PRESET_OPTIONS["fast"].keys() == {"cache", "refresh_steps", "commit", "commit_factor"}
    assert all(GenerationConfig(**options) == preset(name) for name, options in PRESET_OPTIONS.items())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_tokens", "max_new_tokens"),
        ("tempreature", "temperature"),
        ("Temperature", "temperature"),
        ("temp", "temperature"),
        ("block-length", "block_length"),
        ("num_steps", "steps"),
        ("supress_tokens", "suppress_tokens"),
        ("presets", "preset"),
    ],
)
def test_a_misspelt_option_is_told_what_may_have_been_meant(name, meant):
    with pytest.raises(OptionError, match=f"^unknown option '{name}': did you mean '{meant}'[?] options are "):
        GenerationConfig().replace(**{name: 1})


def test_what_is_like_no_option_gets_no_suggestion():
    with pytest.raises(OptionError, match="^unknown option 'xyzzy': options are "):
        GenerationConfig().replace(xyzzy=1)


def test_a_misspelt_name_of_several_is_told_what_may_have_been_meant():
    with pytest.raises(OptionError, match="^preset='fst': did you mean 'fast'[?] must be one of"):
        preset("fst")
    with pytest.raises(OptionError, match="^remasking='low_conf': did you mean 'low_confidence'[?]"):
        GenerationConfig(remasking="low_conf")


@pytest.mark.parametrize("name", ["steps", "max_new_tokens", "seed", "refresh_steps"])
def test_a_whole_number_may_be_written_as_a_float(name):
    config = GenerationConfig(**{name: 64.0, "penalty_exempt": [5.0]})
    assert (getattr(config, name), config.penalty_exempt) == (64, (5,))
    assert type(getattr(config, name)) is int


class Endless:
    def __iter__(self):
        return itertools.count()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 10**5000) for name in ("steps", "seed", "temperature", "refresh_steps", "commit_factor", "remasking")),
        *((name, [10**5000]) for name in ("penalty_exempt", "stop", "steps", "temperature")),
        *((name, math.inf) for name in ("steps", "seed")),
        *((name, "a" * 10**7) for name in ("stop", "steps", "temperature", "penalty_exempt", "remasking")),
        *((name, b"a" * 10**7) for name in ("stop", "steps", "temperature", "penalty_exempt")),
        *((name, Endless()) for name in ("stop", "penalty_exempt", "suppress_tokens", "steps")),
        ("penalty_exempt", range(2**31)),
        ("penalty_exempt", {1: 2}),
        ("stop", ["a"] * 10**6),
        ("stop", ["\ud800" * 9999]),
        ("cache", ["x" * 10**6] * 1000),
    ],
    ids=lambda value: brief(value)[:20],
)
def test_a_huge_value_is_refused_in_a_moment_and_in_few_words(name, value):
    begun = time.process_time()
    with pytest.raises(OptionError, match=f"^{name}[= ]") as raised:
        GenerationConfig(**{name: value})
    assert time.process_time() - begun < 2
    assert len(str(raised.value)) < 1000


def test_a_whole_vocabulary_may_be_listed():
    assert len(GenerationConfig(suppress_tokens=range(256_000)).suppress_tokens) == 256_000
