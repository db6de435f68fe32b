import dataclasses
import math

import numpy as np
import pytest

from diffutron_ort.config import PRESETS, GenerationConfig, preset
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
