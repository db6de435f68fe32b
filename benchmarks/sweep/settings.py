"""What is swept: settings of the approximate options, and the questions and conditions under which they are tried."""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """A name and the options that differ from the preset `short` with the bundle's own."""

    name: str
    family: str
    options: Mapping[str, Any]


class Group(NamedTuple):
    """Questions and conditions under which settings are compared with the exact one.

    Attributes:
        name: In tables.
        seed: Of the questions.
        hard: Whether they are those of `sweep.hard`, which nano was not taught, instead of its held-out ones.
        options: Of every setting in this group, the exact one too.
        every: Whether all settings are tried; else those of `finalists`.
    """

    name: str
    seed: int
    hard: bool
    options: Mapping[str, Any]
    every: bool = False


EXACT = Setting("exact", "exact", {})
STEPS = (32, 16, 8, 4, 2)
FACTORS = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0)
ENTROPIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
REFRESHES: Mapping[str, Mapping[str, Any]] = {
    "refresh 2 steps": {"refresh_steps": 2},
    "refresh 4 steps": {"refresh_steps": 4},
    "refresh 0.01 nats": {"refresh_entropy": 0.01},
    "refresh 0.1 nats": {"refresh_entropy": 0.1},
}
CACHE: Mapping[str, Any] = {"cache": "block"}
REFRESHED = ("factor 0.01", "factor 0.03", "factor 0.1", "entropy 0.01")
"""The rules that are tried with a cache that is refreshed."""
FINALISTS = (
    "exact",
    "factor 0.01",
    "cache, factor 0.01",
    "cache, factor 0.01, refresh 4 steps",
    "cache, factor 0.1, refresh 4 steps",
    "cache, entropy 0.01, refresh 4 steps",
    "cache, entropy 0.1",
)


def rules() -> list[Setting]:
    """Return the adaptive rules, without a cache."""
    factors = [("factor", {"commit": "factor", "commit_factor": value}, value) for value in FACTORS]
    entropies = [("entropy", {"commit": "entropy", "commit_entropy": value}, value) for value in ENTROPIES]
    return [Setting(f"{rule} {value:g}", rule, options) for rule, options, value in factors + entropies]


def cached(setting: Setting, refresh: str | None = None) -> Setting:
    """Return a setting with the cache, which is refreshed by the rule `refresh` of `REFRESHES`."""
    words = ("cache", *([setting.name] if setting.options else []), *([refresh] if refresh else []))
    added = dict(REFRESHES[refresh]) if refresh else {}
    family = setting.family if setting.options else "cache"
    return Setting(", ".join(words), family, {**setting.options, **CACHE, **added})


def settings() -> list[Setting]:
    """Return everything that is swept, the exact setting first."""
    fewer = [Setting(f"{steps} steps", "fewer steps", {"steps": steps}) for steps in STEPS]
    plain = [EXACT, *fewer, *rules()]
    refreshed = product((EXACT, *(rule for rule in rules() if rule.name in REFRESHED)), REFRESHES)
    return [*plain, *map(cached, plain), *(cached(setting, refresh) for setting, refresh in refreshed)]


def finalists() -> list[Setting]:
    """Return the exact setting and those that are tried in every group: around the preset, one change at a time."""
    by_name = {setting.name: setting for setting in settings()}
    return [by_name[name] for name in FINALISTS]


def groups(seed: int) -> list[Group]:
    """Return the conditions: the two that the preset is chosen by, then those that check the choice."""
    drawn = {"temperature": 0.1}
    return [
        Group(f"held-out, seed {seed}", seed, hard=False, options={}, every=True),
        Group(f"harder, seed {seed}", seed, hard=True, options={}, every=True),
        Group(f"held-out, seed {seed + 1}", seed + 1, hard=False, options={}),
        Group(f"harder, seed {seed + 1}", seed + 1, hard=True, options={}),
        Group("held-out, temperature 0.1", seed, hard=False, options=drawn),
        Group("held-out, temperature 0.1, penalty 1.2", seed, hard=False, options={**drawn, "repetition_penalty": 1.2}),
        Group("harder, temperature 0.1", seed, hard=True, options=drawn),
    ]
