"""What benchmarks/frontier.py computes of answers: arithmetic, agreement, the Pareto set, and where it goes on."""

import sys
from itertools import islice
from pathlib import Path

import pytest

from diffutron_ort.config import PRESETS, preset

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are in a checkout, not in a wheel", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

from sweep.answers import Answer, Job, Store, answer, exercises  # noqa: E402
from sweep.arithmetic import MMBERT, Pass, Shape  # noqa: E402
from sweep.figures import agreement, costs, pareto, share_of_tokens  # noqa: E402
from sweep.hard import NANO, hard_questions  # noqa: E402
from sweep.render import is_fast  # noqa: E402
from sweep.settings import EXACT, Group, finalists, groups, settings  # noqa: E402

TINY = Shape(layers=2, hidden=2, intermediate=3, vocabulary=5)


def test_arithmetic_of_a_full_pass_by_hand():
    # First layer, 3 tokens: queries, keys, values and output 4 * 2 * 2, gated unit 3 * 2 * 3, attention 2 * 2 * 3 keys.
    first = 3 * (16 + 18 + 12)
    # Second layer: keys and values of 3 tokens, the rest of the 1 that is predicted.
    second = 3 * 8 + 1 * (8 + 18 + 12)
    head = 1 * (2 * 2 + 2 * 5)
    assert TINY.multiply_adds(Pass(length=3, computed=3, asked=1)) == first + second + head == 214


def test_arithmetic_of_a_cached_pass_by_hand():
    # One token attends to the 3 kept places, the one that it replaces among them, and to itself: 4 keys.
    first, second, head = 16 + 18 + 2 * 2 * 4, 8 + 8 + 18 + 2 * 2 * 4, 14
    assert TINY.multiply_adds(Pass(length=3, computed=1, asked=1)) == first + second + head == 114


def test_arithmetic_of_the_real_shape():
    # research/acceleration.md, section 2, for 256 positions and 17 rows: 65.6 GFLOP, two a multiply-add.
    assert MMBERT.multiply_adds(Pass(256, 256, 17)) * 2 / 1e9 == pytest.approx(65.6, abs=0.5)
    assert MMBERT.total([Pass(256, 256, 17)] * 2) == 2 * MMBERT.multiply_adds(Pass(256, 256, 17))


def test_nanos_shape_is_in_its_bundle():
    assert Shape.read(NANO / "config.json") == Shape(layers=6, hidden=256, intermediate=384, vocabulary=2023)


def test_agreement_counts_places():
    assert agreement([1, 2, 3], [1, 2, 3]) == (3, 3)
    assert agreement([1, 2, 3], [1, 9]) == agreement([1, 9], [1, 2, 3]) == (1, 3)
    assert agreement([], [7]) == (0, 1)
    ours, theirs = ([Answer("", tokens, []) for tokens in made] for made in ([[1, 2], [3]], [[1, 2], [4]]))
    assert share_of_tokens(ours, theirs) == 2 / 3
    assert share_of_tokens([Answer("", [], [])], [Answer("", [], [])]) == 1


def test_costs_are_passes_of_exact_and_times_less():
    exact = [Answer("", [], [Pass(3, 3, 1)] * 4), Answer("", [], [Pass(3, 3, 1)] * 2)]
    assert costs(exact, exact, TINY) == (3, 1)  # six passes, two answers
    made = [Answer("", [], [Pass(3, 3, 1)]), Answer("", [], [Pass(3, 3, 1), Pass(3, 1, 1)])]
    spent = 214 + 214 + 114
    assert costs(made, exact, TINY) == pytest.approx((spent / 214 / 2, 6 * 214 / spent))


def test_pareto_set():
    assert pareto([(1, 1), (2, 0), (0, 2), (1, 0), (0, 0)]) == [True, True, True, False, False]
    assert pareto([(1, 1), (1, 1)]) == [True, True]  # neither is better


def test_the_preset_is_one_of_the_settings():
    made = [preset("short").replace(**setting.options) for setting in settings()]
    assert PRESETS["fast"] in made
    assert any(is_fast(setting.name) for setting in finalists())
    assert made[0] == preset("short")
    assert len(set(made)) == len({setting.name for setting in settings()}) == len(made)


def test_the_groups_differ():
    found = groups(1)
    assert len({group.name for group in found}) == len(found)
    assert found[0].every
    assert found[1].every


def test_hard_questions_are_seeded_and_new():
    first, again = (exercises(Group("", 3, True, {}), 24) for _ in range(2))
    assert first == again
    assert len({exercise.question for exercise in first}) == 24
    assert first != exercises(Group("", 4, True, {}), 24)
    sums = [exercise for exercise in islice(hard_questions(0), 24) if exercise.kind == "three_terms"]
    assert len(sums) == 4
    assert all(exercise.question.count(" artı ") == 2 for exercise in sums)


def test_the_store_goes_on_after_a_line_that_was_cut_off(tmp_path):
    path, job = tmp_path / "answers.jsonl", Job("fp32", {"steps": 2}, "x?")
    Store(path, NANO).add(job, Answer("evet", [7], [Pass(3, 3, 1)]))
    path.write_text(path.read_text("utf-8") + '["half a', encoding="utf-8")
    store = Store(path, NANO)
    assert store[job] == Answer("evet", [7], [Pass(3, 3, 1)])
    assert job._replace(options={"steps": 3}) not in store


def test_an_answer_has_the_passes_that_were_made(model):
    given = answer(model, Job("fp32", EXACT.options, "On iki artı beş kaç eder?"))
    assert given.text == "on yedi"
    assert len(given.passes) == 32  # it ends with the first block
    assert all(one.computed == one.length for one in given.passes)
    assert [one.asked for one in given.passes] == list(range(32, 0, -1))
    assert model.bundle.special.pad not in given.tokens
