"""The command that answers a file of prompts."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffutron_ort.bulk.job import State
from diffutron_ort.cli import rate
from diffutron_ort.cli.main import main
from diffutron_ort.cli.rate import Rate, share
from tests.command import BUFFERED, COMMAND, QUESTION, on_terminal, run

QUICK = ("--steps", "2", "--max-new-tokens", "8", "--temperature", "0.9", "--threads", "1")
ASK = ("generate", "--input", "-", "--output", "-")


def written(path, count, **more):
    """Write a file of prompts, with more values for each."""
    records = [{"id": i, "prompt": "a" * (i * 5 % 17 + 1)} | more for i in range(count)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def command(source, target, *flags):
    return ["generate", "--input", str(source), "--output", str(target), *flags]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "a.jsonl"], "--input needs --output"),
        (["--output", "a.jsonl"], "--output needs --input"),
        (["x", "--processes", "2"], "--processes needs --input"),
        (["x", "--restart"], "--restart needs --input"),
        (["x", "--input", "a.jsonl", "--output", "b.jsonl"], "leave out the one on the command line"),
        (["--input", "a.jsonl", "--output", "b.jsonl", "--json"], "--json is of a single prompt"),
        (["--input", "a.jsonl", "--output", "b.jsonl", "--svg", "c.svg"], "--svg is of a single prompt"),
        (["--input", "a", "--output", "b.jsonl"], "must end with one of .jsonl, .txt, .csv"),
        (["--input", "a.txt", "--output", "b.txt"], "name it .jsonl"),
        (["--input", "a.jsonl", "--output", "b.jsonl", "--processes", "0"], "processes=0: must be an integer"),
        (["--input", "a.jsonl", "--output", "b.jsonl", "--steps", "0"], "steps=0"),
    ],
)
def test_wrong_usage_is_said(capsys, arguments, message):
    assert main(["generate", *arguments]) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert not streams.out


def test_a_file_is_answered(capsys, tmp_path):
    (tmp_path / "in.txt").write_text(f"{QUESTION}\n\nselam\n", encoding="utf-8")
    assert main(command(tmp_path / "in.txt", tmp_path / "out.jsonl")) == 1
    streams = capsys.readouterr()
    first, second, third = map(json.loads, (tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert first == {"prompt": QUESTION, "completion": "on yedi", "finish_reason": "stop"}
    assert (second["prompt"], "error" in second, "completion" in third) == ("", True, True)
    assert "embedded demonstration" in streams.err
    assert "1 of 3 lines failed" in streams.err
    assert not streams.out
    assert main(command(tmp_path / "in.txt", tmp_path / "out.jsonl")) == 0
    assert "it is done; --restart writes it anew" in capsys.readouterr().err


def test_a_column_of_a_compressed_table_is_answered(capsys, tmp_path):
    with gzip.open(tmp_path / "in.csv.gz", "wt", encoding="utf-8") as file:
        file.write(f"id;soru\n1;{QUESTION}\n")
    assert main(command(tmp_path / "in.csv.gz", tmp_path / "out.csv", "--column", "soru")) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file, delimiter=";")
    assert row == {"id": "1", "soru": QUESTION, "completion": "on yedi", "finish_reason": "stop", "error": ""}


def test_options_and_prompts_without_the_template_are_passed_on(capsys, model, tmp_path):
    source = written(tmp_path / "in.jsonl", 2)
    assert main(command(source, tmp_path / "out.jsonl", *QUICK, "--no-template", "--seed", "4")) == 0
    options = {"steps": 2, "max_new_tokens": 8, "temperature": 0.9, "template": False}
    answers = [json.loads(line)["completion"] for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert answers == [model.generate("a", seed=4, **options), model.generate("a" * 6, seed=5, **options)]


def test_standard_input_and_output_are_a_way(tmp_path):
    lines = json.dumps({"prompt": QUESTION}).encode()
    done = run(*ASK, stdin=gzip.compress(lines))
    assert (done.returncode, json.loads(done.stdout)["completion"]) == (0, "on yedi")
    assert b"1 line answered" in done.stderr
    done = run(*ASK, "--format", "txt", stdin=QUESTION.encode())
    assert json.loads(done.stdout) == {"prompt": QUESTION, "completion": "on yedi", "finish_reason": "stop"}


def test_a_reader_that_goes_away_ends_the_command(tmp_path):
    source = written(tmp_path / "in.jsonl", 100, text="x" * 10_000)  # more than a pipe holds
    with subprocess.Popen(
        [*COMMAND, *command(source, "-", *QUICK)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(120) == 1
        said = [line for line in process.stderr.read().splitlines() if b" of 100 lines" not in line]
    assert len(said) == 1  # the embedded demonstration's


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.jsonl", "out.jsonl", "none.jsonl: No such file or directory"),
        (".", "out.jsonl", "must end with one of"),
        ("in.jsonl", "none/out.jsonl", "No such file or directory"),
        ("in.jsonl", "/dev/full", "must end with one of"),
        ("in.jsonl", "in.jsonl", "is the input and the output"),
    ],
)
def test_files_that_cannot_be_used_are_an_error_at_once(capsys, tmp_path, monkeypatch, source, target, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "in.jsonl", 1)
    assert main([*command(source, target), "--model", "is/not/looked/for"]) in (1, 2)
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


# Notes each of the first lines that a run writes, lets some more wait to be noted, and then holds still.
HELD = """
import os, sys, time
from itertools import count
from diffutron_ort.__main__ import main
from diffutron_ort.bulk import output

numbers, put = count(), output.File.put

def held(file, text, **how):
    number = next(numbers)
    if number == {noted} + 9:
        os.write(2, b"held\\n")
        while True:
            time.sleep(0.1)
    output.OFTEN = -1.0 if number < {noted} else 1e9
    put(file, text, **how)

output.File.put = held
sys.exit(main())
"""


def held(arguments, noted):
    """Begin a command, and wait until it holds still with so many more lines noted, and some written that are not."""
    command = [sys.executable, "-c", HELD.format(noted=noted), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=BUFFERED)
    assert b"held\n" in iter(process.stderr.readline, b"")
    return process


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_file_that_is_killed_again_and_again_ends_complete_and_in_order(capsys, tmp_path, processes):
    source, whole, target = written(tmp_path / "in.jsonl", 200), tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert main(command(source, whole, *QUICK)) == 0
    arguments, journal = command(source, target, *QUICK, "--processes", processes), tmp_path / "out.jsonl.journal"
    counts = [0]
    for noted in (30, 70):
        with held(arguments, noted) as process:
            process.kill()
        counts.append(json.loads(journal.read_bytes().split(b"\n")[-2])[0])
    assert counts == [0, 30, 100]
    assert main(arguments) == 0
    assert target.read_bytes() == whole.read_bytes()
    assert [line["id"] for line in lines(target)] == list(range(200))
    assert not journal.exists()


def children(process):
    """Return the processes that a process has begun."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(int(path.parent.name))
    return found


def is_alive(pid):
    """Return whether a process runs; one that has ended may wait for its new parent to notice."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_being_ended_ends_all_processes_and_leaves_what_can_be_gone_on_with(tmp_path, number, code):
    source, target = written(tmp_path / "in.jsonl", 200), tmp_path / "out.jsonl"
    with held(command(source, target, *QUICK, "--processes", "2"), 20) as process:
        workers = children(process)
        for pid in workers if number == signal.SIGINT else ():  # Ctrl-C reaches all that belong to the terminal
            os.kill(pid, number)
        process.send_signal(number)
        at = time.monotonic()
        assert process.wait(120) == code
        said = process.stderr.read().decode()
    assert len(workers) >= 2
    while any(map(is_alive, workers)):
        assert time.monotonic() < at + 120
        time.sleep(0.02)
    assert "Traceback" not in said
    assert ("the same command goes on" in said) == (number != signal.SIGKILL)
    assert (tmp_path / "out.jsonl.journal").exists()


def test_progress_is_shown_on_a_terminal(tmp_path):
    source = written(tmp_path / "in.jsonl", 40)
    code, screen, _ = on_terminal(command(source, tmp_path / "out.jsonl", *QUICK))
    assert code == 0
    assert re.search(r"\d+ of 40 lines", screen)
    assert "40 lines answered in" in screen


def test_progress_is_a_line_from_time_to_time_in_a_log(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(rate, "OFTEN", -1.0)
    assert main(command(written(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl", *QUICK)) == 0
    assert re.search(r"diffutron-ort: 40 of 40 lines, [\d.]+ a second\n", capsys.readouterr().err)


def test_the_rate_is_that_of_this_run(monkeypatch):
    monkeypatch.setattr(rate, "time", SimpleNamespace(monotonic=iter([10.0, 12.0, 12.0]).__next__))
    described = Rate()
    assert described.text(State(101, 0, 100, 200)) == "101 of 200 lines"
    assert described.text(State(151, 2, 100, 200)) == "151 of 200 lines, 2 failed, 25 a second"
    assert share(State(151, 2, 100, 200)) == 0.51
    assert share(State(151, 2, 100, None)) == 0.0
