"""The example on a local cluster of two nodes: the lines of the command line, also where a worker is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffutron_ort.bulk.answering import answer
from tests.command import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray" / "answer.py"
if not EXAMPLE.exists():
    pytest.skip("the examples are in a checkout, not in a wheel", allow_module_level=True)

pytestmark = pytest.mark.ray
QUESTIONS = ["On iki artı beş kaç eder?", "Zıddını yaz: sığ", "Ters sırala: kitap, deniz, okul, elma"]
ACTOR = b"ray::MapWorker(MapBatches(Answerer))"
ROWS = 4  # that an actor gets at a time
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONIOENCODING": "utf-8"}


def questions(count):
    """Records of all kinds: texts, messages, options that let the seed decide, and one that fails."""
    for i in range(count):
        text = QUESTIONS[i % len(QUESTIONS)]
        if i % 3 == 0:
            yield {"id": f"a{i}", "prompt": text, "options": {"temperature": 20.0}}
        elif i % 7 == 0:
            yield {"id": f"b{i}", "messages": [{"role": "user", "content": text}]}
        else:
            yield {"id": f"c{i}", "prompt": "kitap " * 300 if i == 5 else text}


def write_lines(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


GATED = """
import os, runpy, sys, time
from diffutron_ort.integrations import ray

class Answerer(ray.Answerer):
    def __call__(self, batch):
        while batch["index"][0].as_py() >= {first} and not os.path.exists({gate!r}):
            time.sleep(0.05)
        return super().__call__(batch)

ray.Answerer = Answerer  # which the example imports
runpy.run_path({example!r}, run_name="__main__")
"""


def gated(gate, first):
    """Return a program that is the example, but that rows from number `first` on wait for a file to be there."""
    return ["-c", GATED.format(first=first, gate=str(gate), example=str(EXAMPLE))]


def started(cluster, source, out, *options, program=(EXAMPLE,)):
    arguments = [source, out, "--address", cluster.address, "--rows", ROWS, "--steps", 16, *options]
    command = [sys.executable, *program, *arguments]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def ended(process):
    _, err = process.communicate(timeout=600)
    return process.returncode, err.splitlines()[-1], err


def answers(out):
    """The answers as they stand in the files, in the order of their numbers, without what is null."""
    import pyarrow.parquet as pq

    rows = [row for path in out.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    rows.sort(key=lambda row: row["index"])
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def command_lines(source, *options):
    """What the command line makes of a file."""
    out = source.with_suffix(".expected.jsonl")
    done = run("generate", "--input", str(source), "--output", str(out), "--steps", "16", *options)
    assert done.returncode == 1, done.stderr.decode()
    return [json.loads(line) | {"index": i} for i, line in enumerate(out.read_text("utf-8").splitlines())]


def workers(cluster):
    """The processes of the actors on each node."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = str(node.all_processes["raylet"][0].process.pid)
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                if parent == raylet and (folder / "cmdline").read_bytes().startswith(ACTOR):
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
    return found


def test_a_file_is_answered_as_by_the_command_and_a_table_as_by_the_library(cluster, model, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = list(questions(24))
    write_lines(tmp_path / "in.jsonl", records)
    code, last, err = ended(started(cluster, tmp_path / "in.jsonl", tmp_path / "out", "--seed", 3))
    assert (code, last) == (1, "24 rows, of which 1 failed"), err
    assert answers(tmp_path / "out") == command_lines(tmp_path / "in.jsonl", "--seed", "3")

    table = pa.table({"text": [record["prompt"] for record in records if "prompt" in record]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=11)
    code, last, err = ended(started(cluster, tmp_path / "in.parquet", tmp_path / "again", "--column", "text"))
    assert (code, last) == (1, f"{len(table)} rows, of which 1 failed"), err
    found = list(answer(model, table.to_pylist(), column="text", steps=16))
    assert answers(tmp_path / "again") == [row | {"index": i} for i, row in enumerate(found)]


def test_nothing_is_lost_where_actors_are_killed(cluster, tmp_path):
    records = list(questions(96))
    write_lines(tmp_path / "in.jsonl", records)
    gate, out, killed = tmp_path / "gate", tmp_path / "out", []
    program = gated(gate, first=len(records) // 2)
    process = started(cluster, tmp_path / "in.jsonl", out, "--rows-per-file", 1, program=program)
    while len(killed) < 2:
        assert process.poll() is None, ended(process)
        if any(out.glob("*.parquet")):  # so that the actors have answered some and not all
            for pid in [pid for pid in workers(cluster) if pid not in killed][:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        time.sleep(0.05)
    assert len(list(out.glob("*.parquet"))) <= len(records) // ROWS // 2
    gate.touch()
    code, last, err = ended(process)
    assert (code, last) == (1, "96 rows, of which 1 failed"), err
    assert answers(tmp_path / "out") == command_lines(tmp_path / "in.jsonl")


def test_what_is_wrong_with_all_rows_is_said_in_a_line(cluster, tmp_path):
    write_lines(tmp_path / "in.jsonl", [{"prompt": "a"}])
    code, last, _ = ended(started(cluster, tmp_path / "in.jsonl", tmp_path / "out", "--model", "/nowhere"))
    assert code == 1
    assert last.startswith("/nowhere is not a folder: give a bundle")
