import json
from dataclasses import replace

import numpy as np
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.checks import bench
from diffutron_ort.cli import main as cli
from diffutron_ort.errors import DiffutronError

FEW = {"starts": 1, "rounds": 1, "answers": 1}


@pytest.fixture(scope="module")
def report(model):
    return bench.bench(model, {}, **FEW)


def test_everything_that_was_measured_is_there(report, model):
    machine = report["machine"]
    assert (machine["variant"], machine["threads"]) == ("fp32", model.forward.threads)
    assert machine["provider"] == model.forward.providers[0]
    assert all(machine[name] for name in ("model", "processor", "onnxruntime"))
    assert set(report["start"]) == {"seconds", "load_seconds", "resident", "peak"}
    assert report["start"]["seconds"] >= report["start"]["load_seconds"] > 0
    assert [(row["length"], row["rows"]) for row in report["passes"]] == [(64, 32), (128, 32), (256, 32)]
    assert all(row["full_ms"] > 0 and row["cached_ms"] > 0 for row in report["passes"])
    assert json.loads(json.dumps(report)) == report


def test_answers_are_counted(report, model):
    tokens = len(model.tokenizer.encode("on yedi\n"))  # and then [/Answer]
    for row in report["answers"]:
        assert row["full"] + row["cached"] == row["steps"] > 0
        assert row["tokens"] == tokens
        assert row["rate"] == pytest.approx(row["tokens"] / row["seconds"])
    short, fast = report["answers"]
    assert (short["preset"], fast["preset"]) == ("short", "fast")
    assert short["cached"] == 0
    assert fast["cached"] > 0
    assert fast["steps"] < short["steps"]


@pytest.mark.parametrize("length", [16, 64])
def test_the_cached_pass_computes_the_predicted_rows_alone_and_says_the_same(model, length):
    full, cached = bench.pass_pair(model.forward, bench.full_pass(model, length))
    rows = min(32, length)
    assert full.input_ids.shape == (1, length)
    assert len(full.rows) == len(cached.rows) == cached.input_ids.shape[1] == rows
    assert full.past is None
    assert (cached.past.position_ids >= 0).sum() == length - rows
    logits = [model.forward(replace(batch, want_logits=True)).logits for batch in (full, cached)]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_the_median_is_of_rounds_in_turns():
    turns = []
    taken = bench._turns([lambda: turns.append("a"), lambda: turns.append("b")], 2)
    assert turns == ["a", "b"] * 3
    assert len(taken) == 2
    assert bench._median([{"x": 1.0, "y": None}, {"x": 5.0, "y": 2.0}, {"x": 2.0, "y": 2.0}]) == {"x": 2.0, "y": None}


def test_memory_is_read_from_proc_or_asked_for(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t     20 kB\nVmRSS:\t     10 kB\n")
    assert [bench._memory(name, status) for name in ("VmRSS", "VmHWM")] == [10240, 20480]
    pytest.importorskip("resource")
    assert bench._memory("VmRSS", tmp_path / "none") is None
    assert bench._memory("VmHWM", tmp_path / "none") > 2**20


def test_a_process_that_fails_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DiffutronError, match="cannot load the model: .*nowhere"):
        bench.started({"model": str(tmp_path / "nowhere")})


def few(monkeypatch):
    real = bench.bench
    monkeypatch.setattr(bench, "bench", lambda *arguments: real(*arguments, **FEW))


def test_the_command_prints_tables(monkeypatch, capsys):
    few(monkeypatch)
    assert cli.main(["bench", "--variant", "int8", "--threads", "1", "--no-spin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert ["variant", "int8"] in words
    assert ["threads", "1"] in words
    assert ["spin", "False"] in words
    assert f"answers to {bench.QUESTION!r}" in lines
    assert [row[0] for row in words if row and row[0] in ("64", "128", "256", "short", "fast")] == [
        "64",
        "128",
        "256",
        "short",
        "fast",
    ]


def test_the_command_prints_the_same_as_json(monkeypatch, capsys):
    few(monkeypatch)
    assert cli.main(["bench", str(load_bundle().folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)) == {"machine", "start", "passes", "answers"}
    assert captured.err == ""


@pytest.mark.parametrize(("arguments", "code"), [(["--variant", "int3"], 2), (["nowhere/at/all"], 1)])
def test_what_cannot_be_loaded_ends_the_command_as_any_other(arguments, code, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "bench", lambda *_: pytest.fail("nothing is measured"))
        assert cli.main(["bench", *arguments]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith("diffutron-ort: ")


def test_the_default_variant_is_fp32_where_it_is_there(model):
    assert model.bundle.default_variant == "fp32"
    assert replace(model.bundle, variants={"int8": model.bundle.variants["int8"]}).default_variant == "int8"
