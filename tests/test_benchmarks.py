"""The benchmarks' own arithmetic: the reference's sampler as the peers run it, ratios, and the report's sections."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.schedule import commit_counts
from tests.golden.hash_model import HashModel
from tests.passes import pass_input

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are in a checkout, not in a wheel", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

import results  # noqa: E402
from contest.others import Others  # noqa: E402
from contest.reference import EOS, MASK, NumpySampler, Settings, TorchSampler, generate  # noqa: E402
from contest.report import Figures, Judged, judged, number  # noqa: E402
from contest.rounds import Sample  # noqa: E402
from contest.trace import summary  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
ROWS = json.loads((GOLDEN / "rows.json").read_text("utf-8"))
TRACES = [
    case
    for case in json.loads((GOLDEN / "sampler_single.json").read_text("utf-8"))
    if case["kind"] == "generate" and not case["options"]["cfg_scale"] and case["schedule"] == "linear"
]


@pytest.mark.parametrize("case", [case for case in ROWS if (case["mask_id"], case["eos_id"]) == (MASK, EOS)])
def test_rows_are_the_references(case):
    settings = Settings(case["temperature"], case["repetition_penalty"])
    sampler = NumpySampler(lambda ids: ids, settings, lambda shape: np.array(case["uniform"]).reshape(shape))
    logits = np.array(case["logits"], np.float32)
    sampler.penalise(logits, np.array(case["canvas"]))
    np.testing.assert_array_equal(logits, np.array(case["penalised"], np.float32))
    tokens, confidence = sampler.choose(logits)
    np.testing.assert_array_equal(tokens, case["token"])
    np.testing.assert_allclose(confidence, case["confidence"], atol=1e-6)


def forward_of(case):
    model = HashModel(case["vocab_size"], case["salt"])

    def forward(ids):
        places = np.arange(len(ids))
        return model.logits(pass_input(np.asarray(ids)[None], places[None], places))

    return forward


def replay(case, sampler):
    """Return the canvas before the first step and after each."""
    options, [prompt] = case["options"], case["prompts"]
    canvas = for_generation(prompt, options["max_new_tokens"], MASK).ids.copy()
    steps = -(-options["steps"] // -(-options["max_new_tokens"] // options["block_length"]))
    made = [canvas.tolist()]

    def step(canvas, end, count):
        sampler(canvas, end, count)
        made.append(canvas.tolist())

    generate(step, canvas, len(prompt), options["block_length"], lambda masks: commit_counts(masks, steps))
    return made


@pytest.mark.parametrize("cut", [False, True])
def test_numpy_loop_takes_the_references_steps(cut):
    assert len(TRACES) >= 10
    for case in TRACES:
        settings = Settings(case["options"]["temperature"], case["options"]["repetition_penalty"], cut)
        made = replay(case, NumpySampler(forward_of(case), settings))
        assert made == [canvas for [canvas] in case["canvases"]], case["id"]


@pytest.mark.torch
@pytest.mark.parametrize("cut", [False, True])
def test_torch_loop_takes_the_references_steps(cut):
    import torch

    for case in TRACES:
        settings, forward = Settings(0.0, case["options"]["repetition_penalty"], cut), forward_of(case)
        sampler = TorchSampler(lambda ids, forward=forward: torch.from_numpy(forward(ids)), settings)
        made = replay(case, lambda canvas, end, count, sampler=sampler: sampler(torch.from_numpy(canvas), end, count))
        assert made == [canvas for [canvas] in case["canvases"]], case["id"]


@pytest.mark.torch
@pytest.mark.parametrize("case", ROWS[:8])
def test_torch_says_what_numpy_says(case):
    import torch

    logits = np.array(case["penalised"], np.float32)
    tokens, confidence = NumpySampler(None, Settings(0.0)).choose(logits.copy())
    same, close = TorchSampler(None, Settings(0.0)).choose(torch.from_numpy(logits))
    np.testing.assert_array_equal(same, tokens)
    np.testing.assert_allclose(close, confidence, rtol=1e-5)


def figures(*samples):
    return Figures([Sample(contender, measure, group, 0, value) for contender, measure, group, value in samples])


def test_a_ratio_compares_medians_of_one_group():
    measured = figures(
        ("optimum-int8", "answer cut", "optimum", 16.0),
        ("torch-bf16", "answer cut", "torch", 30.0),
        ("ours-int8", "answer exact", "optimum", 2.0),
        ("ours-int8", "answer exact", "optimum", 4.0),
        ("ours-int8", "answer exact", "optimum", 9.0),
        ("ours-int8", "answer exact", "torch", 10.0),
    )
    assert measured.ratio("optimum-int8", "answer cut", "ours-int8", "answer exact") == 4.0
    assert measured.against_fastest("cut", "ours-int8", "answer exact") == 3.0  # torch's, by the ratio of its own group
    assert measured.against_fastest("written", "ours-int8", "answer exact") is None


def test_judged_figures_know_their_side_of_the_target():
    assert Judged("", 8, 8.0, " times").met == Judged("", 312, 311.0, " MB", "less").met == "yes"
    assert Judged("", 8, 7.9, " times").met == Judged("", 312, 313.0, " MB", "less").met == "no"
    assert Judged("", None, 7.9, " times").met == "reported"
    assert Judged("", 8, None, " times").row() == ["", "≥ 8 times", "–", "not measured"]
    measured = figures(("ours-int8", "pass", "optimum", 0.05), ("optimum-fp32", "pass", "optimum", 0.5))
    rows = {one.figure: one.measured for one in judged(measured, 311_000_000)}
    assert rows["int8 weights on disk"] == 311
    assert rows["exact int8 pass against optimum, float32"] == 10


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")],
)
def test_three_digits_count(value, shown):
    assert number(value) == shown


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_others_are_those_who_are_not_the_process():
    mine, anothers = Others(os.getpid()), Others(os.getppid())
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 0 <= mine.share() <= anothers.share() <= 1


def test_a_trace_is_summed_up_by_kind_of_pass():
    mean = summary([[[True, 80, 32], [False, 32, 10]], [[True, 90, 30], [False, 32, 6], [False, 32, 2]]])
    assert mean["full passes"] == 1
    assert mean["cached passes"] == 1.5
    assert (mean["rows of a full pass"], mean["rows of a cached pass"]) == (31, 6)


def test_a_section_replaces_itself_and_nothing_else(tmp_path):
    path = tmp_path / "RESULTS.md"
    for name, content in (("a", "one"), ("b", "two"), ("a", "three\n"), ("b", "two")):
        results.write_section(name, content, path)
    text = path.read_text("utf-8")
    assert text.startswith("# Results\n")
    assert text.endswith("<!-- a -->\nthree\n<!-- /a -->\n\n<!-- b -->\ntwo\n<!-- /b -->\n")
    path.write_text(text.replace("<!-- /b -->\n", ""), "utf-8")
    with pytest.raises(ValueError, match="does not close it"):
        results.write_section("b", "two", path)


def test_tables_and_circumstances():
    assert results.table(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert results.aligned(["a", "b"], [["long", 2]]) == "a     b\nlong  2"
    assert set(results.machine()) == {"processor", "cores", "instructions", "memory", "system"}
    assert results.versions(["numpy", "no-such-package"]) == {"numpy": np.__version__}
