"""The benchmarks' own arithmetic: the reference's sampler as the peers run it, ratios, and the report's sections."""

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
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
from contest import floor, others  # noqa: E402
from contest.reference import EOS, MASK, NumpySampler, Settings, TorchSampler, generate  # noqa: E402
from contest.report import Figures, Judged, floor_rows, judged, number  # noqa: E402
from contest.rounds import Sample  # noqa: E402
from contest.trace import summary  # noqa: E402

COST = {"int8": 1e-12, "fp32": 4e-12}
"""Seconds an operation, of a machine that is made up."""
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


def test_a_pass_is_compared_with_the_floor_of_its_precision_and_group():
    measured = figures(
        ("optimum-int8", "pass", "optimum", 0.6),
        ("ours-int8", "pass", "optimum", 0.3),
        ("ours-int8", "pass", "torch", 0.3),
        ("floor-int8", "pass", "optimum", 0.2),
        ("floor-int8", "pass", "torch", 0.1),
        ("floor-fp32", "pass", "optimum", 0.7),
    )
    assert measured.over_floor("optimum-int8", "pass") == pytest.approx(3)
    assert measured.over_floor("ours-int8", "pass") == pytest.approx(2)
    assert measured.over_floor("torch-bf16", "pass") is None
    rows = {one.figure: (one.measured, one.met) for one in judged(measured, None)}
    assert rows["exact int8 pass over the floor"] == (pytest.approx(2), "no")
    assert floor_rows(measured) == [["a pass, ms", "150", "700"]]


@pytest.mark.exporter
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_floor_adds_up_the_products_of_a_pass(precision, monkeypatch):
    monkeypatch.setattr(floor, "seconds_of", lambda product, precision: product.operations * COST[precision])
    one = floor.Floor(precision)
    body = 22 * 2 * 768 * (4 * 768 + 3 * 1152)  # operations a token
    head = 2 * 768 * 256_000  # a row
    for measure, tokens, rows, keys in (("pass", 256, 32, 256), ("pass cached", 32, 32, 256), ("pass few", 32, 2, 128)):
        products = (tokens * body + rows * head) * COST[precision]
        attention = 22 * 4 * tokens * keys * 768 * COST["fp32"]
        assert one.measures[measure]() == pytest.approx(products + attention)
    assert one.measures["rate head"]() == pytest.approx(1 / COST[precision])


@pytest.mark.exporter
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_product_of_the_floor_runs(precision):
    session = ort.InferenceSession(floor.graph(floor.Product(3, 8, 5), precision), providers=["CPUExecutionProvider"])
    [y] = session.run(None, {"x": np.ones((3, 8), np.float32)})
    assert y.shape == (3, 5)
    assert 0 < floor.seconds_of(floor.Product(3, 8, 5), precision) < 1


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


def test_others_are_those_who_are_not_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(others, "Path", lambda name: tmp_path / name.lstrip("/"))

    def said(idle, user, own):
        for name, text in (("stat", f"cpu {user} 0 30 {idle} 7 0 0 0 9 9\ncpu0 1"), ("5/stat", f"5 (a) b) S{own}")):
            (tmp_path / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "proc" / name).write_text(text)

    nothing = " 0" * 10
    said(1000, 200, f"{nothing} 10 5")
    watched = others.Others(5)
    assert watched.share() == 0
    said(1060, 240, f"{nothing} 20 10")
    assert watched.share() == pytest.approx((40 - 15) / 100)
    said(1000, 300, f"{nothing} 200 0")  # by rounding, it had more than there was
    assert watched.share() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_others_have_a_part_of_this_machine():
    mine = others.Others(os.getpid())
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 0 <= mine.share() <= 1
    assert mine._seconds()[2] - mine.before[2] > 0.2


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


@pytest.fixture(scope="module")
def exports():
    """The module benchmarks/export.py, which the folder of the exporter would hide from an import."""
    spec = importlib.util.spec_from_file_location("benchmarks_export", BENCHMARKS / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_peak():
    """Return the most bytes that this process has had: a child begins as a copy of its parent."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.exporter
@pytest.mark.skipif(sys.platform == "win32", reason="asks the system what a process took")
def test_an_export_is_measured(exports, capsys):
    exports.main([str(GOLDEN / "tiny" / "checkpoint"), "--only", "ours-fp32", "--rounds", "1"])
    head, line = (re.split(r"\s{2,}", text) for text in capsys.readouterr().out.splitlines())
    assert head == list(exports.HEAD)
    label, *figures = line
    seconds, processors, peak, installed = (float(figure.replace(",", "")) for figure in figures)
    assert label == "diffutron-ort, float32"
    assert min(seconds, processors) > 0.05
    assert 50 < peak < max(2000, own_peak() / 1e6 + 1000)
    assert 50 < installed < 5000


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system what a process took")
def test_a_cost_is_of_the_process(exports):
    lines = "import time; held = bytes(range(256)) * 800_000; time.sleep(0.5)"
    cost = exports.measure([sys.executable, "-c", lines])
    assert cost.seconds > 0.5
    assert cost.processors < cost.seconds + 10
    assert 200e6 < cost.peak < max(400e6, own_peak() + 50e6)
    with pytest.raises(subprocess.CalledProcessError):
        exports.measure([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_route_without_its_packages_is_skipped(exports, capsys, monkeypatch):
    monkeypatch.setitem(exports.ROUTES, "torch-fp32", exports.Route("other", ("numpy", "no-such-package")))
    exports.main(["nowhere", "--only", "torch-fp32"])
    said = capsys.readouterr().out
    assert said.startswith("torch-fp32: skipped, since no-such-package is not installed\n")
    assert "other" not in said


def test_what_a_package_needs_is_found_through_extras(exports):
    assert exports.needed(["numpy", "no-such-package"]) == {"numpy"}
    assert {"numpy", "tokenizers", "huggingface-hub"} <= exports.needed(["diffutron-ort"])
    assert "onnxruntime" not in exports.needed(["diffutron-ort"])
    assert "onnxruntime" in exports.needed(["diffutron-ort[cpu]"])
    assert exports.size("numpy") > 5e6
