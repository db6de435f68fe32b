"""The command that measures how well a model predicts the texts in files."""

import gzip
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from diffutron_ort.cli import rate
from diffutron_ort.cli.main import main
from diffutron_ort.perplexity.measuring import measured
from diffutron_ort.perplexity.summary import summarised
from tests.command import BUFFERED, COMMAND, on_terminal, run

TEXTS = ["Türkiye'nin başkenti Ankara şehridir.", "", "Salı gününden sonra çarşamba gelir.", "Sığ"]
FEW = ("--samples", "4")


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return str(path)


def objects(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def whole_lines(path):
    """Return the lines of a file that have an end, none of one that is not there."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def test_a_file_has_the_figures_of_its_documents(capsys, tmp_path, model, lines):
    output = tmp_path / "out.jsonl"
    arguments = ["perplexity", lines, "--format", "lines", "--json", "--output", str(output), "--seed", "5", *FEW]
    assert main(arguments) == 0
    streams = capsys.readouterr()
    summary = summarised(measured(model, TEXTS, samples=4, seed=5))
    found = json.loads(streams.out)
    for name in ("documents", "empty", "failed", "tokens", "bytes", "passes"):
        assert found[name] == getattr(summary, name), name
    for name in ("nats_per_token", "standard_error", "sampling_error", "bits_per_byte", "perplexity"):
        assert found[name] == pytest.approx(getattr(summary, name)), name
    assert (found["method"], found["samples"], found["options"]) == ("elbo", 4, {"seed": 5})
    assert "1 document without any text, left out" in streams.err
    records = objects(output)
    assert [record["document"] for record in records] == [f"{lines}:{i + 1}" for i in range(4)]
    assert records[1] == {"document": f"{lines}:2", "tokens": 0}
    assert sum(record.get("logprob", 0) for record in records) == pytest.approx(found["logprob"])


def test_people_get_a_table(capsys, lines):
    assert main(["perplexity", lines, *FEW]) == 0
    rows = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["method", "documents", "tokens", "nats a token", "bits a byte", "perplexity"]
    assert rows[0][1] == "elbo, 4 samples a window"
    assert rows[1][1] == "1"
    assert "from the masks drawn" in rows[3][1]


def test_documents_that_fail_are_said_and_counted_and_the_code_is_1(capsys, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"soru": "Salı"}\n{}\n{"soru": 5}\n' + "x\n" * 20 + '{"soru": "Sığ"}\n', encoding="utf-8")
    assert main(["perplexity", str(source), "--column", "soru", "--json", "--output", str(output), *FEW]) == 1
    streams = capsys.readouterr()
    found = json.loads(streams.out)
    assert (found["documents"], found["failed"]) == (2, 22)
    assert streams.err.count("is not valid JSON") == 8
    assert "more documents fail; --output tells why each of them does" in streams.err
    assert "22 of 24 documents failed" in streams.err
    assert sum("error" in record for record in objects(output)) == 22


def test_several_files_of_several_kinds_are_one_corpus(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("Salı", encoding="utf-8")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress("id,text\n1,Sığ\n2,Derin\n".encode()))
    (tmp_path / "c.jsonl").write_text('{"text": "Ankara"}\n', encoding="utf-8")
    files = [str(tmp_path / name) for name in ("a.txt", "b.csv.gz", "c.jsonl")]
    assert main(["perplexity", *files, "--method", "pll", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 4
    assert main(["perplexity", *files, "--method", "pll", "--json", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2


def test_two_runs_are_compared_document_by_document(capsys, tmp_path, model, lines):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    arguments = ["perplexity", lines, "--format", "lines", *FEW]
    assert main([*arguments, "--output", str(one)]) == 0
    assert main([*arguments, "--variant", "int8", "--output", str(other), "--against", str(one), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["difference"]
    pairs = [(a, b) for a, b in zip(objects(one), objects(other), strict=True) if a["tokens"]]
    tokens = sum(a["tokens"] for a, _ in pairs)
    nats = [a["logprob"] - b["logprob"] for a, b in pairs]
    assert found["nats_per_token"] == pytest.approx(sum(nats) / tokens)
    assert (found["documents"], found["left_out"]) == (3, 0)
    assert main([*arguments, "--against", str(one)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["difference", "0", "±", "0", "nats", "a", "token"]


def test_documents_that_another_run_has_not_scored_are_left_out_of_the_difference(capsys, tmp_path, lines):
    one = tmp_path / "one.jsonl"
    arguments = ["perplexity", lines, "--format", "lines", *FEW]
    assert main([*arguments, "--output", str(one)]) == 0
    first, empty, third, _ = one.read_text("utf-8").splitlines()
    changed = third.replace('"tokens": ', '"tokens": 1')
    one.write_text("\n".join([first, empty, changed, '{"document": "to']), encoding="utf-8")
    assert main([*arguments, "--against", str(one), "--json"]) == 0
    streams = capsys.readouterr()
    found = json.loads(streams.out.splitlines()[-1])["difference"]
    assert (found["nats_per_token"], found["standard_error"]) == (0, None)
    assert (found["documents"], found["left_out"]) == (1, 2)
    assert "has not scored the same tokens of 2 documents" in streams.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["in.txt", "--against", "none"], 1, "none: No such file or directory"),
        (["in.txt", "--against", "in.txt"], 1, "in.txt: line 1 is not valid JSON"),
        (["in.txt", "--against", "empty"], 1, "empty holds no document"),
        (["in.txt", "--against", "pll"], 1, "pll has method 'pll', and this run 'elbo': run it again with the same"),
        (["in.txt", "--against", "drawn"], 1, "drawn has samples 8, and this run 16"),
        (["in.txt", "--against", "drawn", "--samples", "8"], 1, "drawn has seed 3, and this run 0"),
        (["in.txt", "--against", "pll", "--output", "pll"], 2, "pll is read and written"),
        (["none.txt"], 1, "none.txt: No such file or directory"),
        (["in.txt", "none.txt"], 1, "none.txt: No such file or directory"),
        (["."], 1, ".: Is a directory"),
        (["wide.txt"], 1, "wide.txt is not UTF-8, but UTF-16"),
        (["in.csv"], 1, "in.csv has no column 'text'"),
        (["in.txt", "--limit", "0"], 2, "limit=0: must be at least 1"),
        (["in.txt", "--samples", "1"], 2, "samples=1"),
        (["in.txt", "--method", "pll", "--samples", "8"], 2, "--samples is of the method elbo"),
        (["in.txt", "--output", "in.txt"], 2, "in.txt is read and written"),
        (["in.txt", "--output", "-"], 2, "standard output gets the figures"),
        (["in.txt", "--output", "none/out"], 1, "none/out: No such file or directory"),
        (["-", "-"], 2, "standard input can be read once"),
    ],
)
def test_bad_input_is_an_error_at_once(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("x", encoding="utf-8")
    (tmp_path / "in.csv").write_text("a,b\n", encoding="utf-8")
    (tmp_path / "empty").touch()
    (tmp_path / "pll").write_text('{"document": "in.txt", "method": "pll"}', encoding="utf-8")
    drawn = '{"document": "in.txt", "method": "elbo", "samples": 8, "seed": 3}'
    (tmp_path / "drawn").write_text(drawn, encoding="utf-8")
    (tmp_path / "wide.txt").write_bytes("x".encode("utf-16"))
    assert main(["perplexity", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_without_any_text_there_is_nothing_to_say(capsys, tmp_path):
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    assert main(["perplexity", str(tmp_path / "a.txt")]) == 1
    assert "there is no text to score: 1 document without any, 0 that failed" in capsys.readouterr().err


def test_a_full_disk_is_said(lines):
    done = run("perplexity", lines, "--output", "/dev/full", *FEW)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-1] == b"diffutron-ort: /dev/full: No space left on device"


def test_documents_and_figures_do_not_go_to_the_same_file(lines):
    done = run("perplexity", lines, "--output", "/dev/stdout", *FEW)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard output gets the figures" in done.stderr


def test_standard_input_is_a_way():
    done = run("perplexity", "-", "--format", "lines", "--json", *FEW, stdin=gzip.compress("Salı\nSığ\n".encode()))
    assert (done.returncode, json.loads(done.stdout)["documents"]) == (0, 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_run_that_is_ended_has_said_and_written_what_it_did(tmp_path, number, code):
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("Salı günü\n" * 200_000, encoding="utf-8")  # which takes many minutes
    command = [*COMMAND, "perplexity", str(source), "--format", "lines", "--output", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=BUFFERED) as process:
        end = time.monotonic() + 120
        while len(whole_lines(output)) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, b"")
    assert b"Traceback" not in err
    if number == signal.SIGINT:
        assert re.search(rb"interrupted: \d+ of 200000 documents, .* perplexity", err.splitlines()[-1])
    assert all(json.loads(line)["tokens"] for line in whole_lines(output))


def test_progress_is_shown_with_a_rate_and_the_figure_so_far(capsys, tmp_path, monkeypatch):
    source = tmp_path / "in.txt"
    source.write_text(f"{TEXTS[0]}\n" * 200, encoding="utf-8")
    arguments = ["perplexity", str(source), "--format", "lines"]
    often = "import sys; from diffutron_ort.cli import main, rate; rate.REDRAW = -1.0; sys.exit(main.main())"
    code, screen, _ = on_terminal(["-c", often, *arguments], [sys.executable])
    assert code == 0
    assert re.search(r"\d+ of 200 documents, [\d.,]+ tokens a second, perplexity", screen)
    monkeypatch.setattr(rate, "OFTEN", -1.0)
    assert main([*arguments, *FEW, "--limit", "20"]) == 0
    assert re.search(r"diffutron-ort: \d+ of 20 documents, .* tokens a second, perplexity", capsys.readouterr().err)
