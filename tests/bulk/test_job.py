"""A run over a file: what it writes, and how it goes on after it has been ended at any point."""

import csv
import gzip
import json
import os
import random
from pathlib import Path

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bulk import job as jobs
from diffutron_ort.bulk import journal, output
from diffutron_ort.bulk.answering import Terms
from diffutron_ort.bulk.job import Job, run
from diffutron_ort.bulk.lines import MOST_LINE
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import BundleFileError, DiffutronError, InputError, OptionError
from tests.bulk.fakes import QUICK

LINES = 60


@pytest.fixture
def source(tmp_path):
    """A file of prompts, of which some cannot be answered."""
    path = tmp_path / "in.jsonl"
    given = [json.dumps({"id": i, "prompt": "a" * (i * 5 % 17 + 1)}) for i in range(LINES)]
    given[7], given[31] = "{", json.dumps({"id": 31})
    path.write_text("\n".join(given), encoding="utf-8")
    return path


@pytest.fixture
def do(model, source, tmp_path, monkeypatch):
    """Return a function that runs a job with the embedded model."""
    monkeypatch.setattr(Diffutron, "from_pretrained", lambda *_, **__: model)

    def do(name="out.jsonl", report=lambda _: None, options=QUICK, **fields):
        job = Job(source=str(source), target=str(tmp_path / name), terms=Terms(options=options), **fields)
        return run(job, lambda: load_bundle().folder, report)

    return do


@pytest.fixture
def expected(do, tmp_path):
    """The output of a run that is not ended early."""
    state = do("expected.jsonl")
    assert state == (LINES, 2, 0, LINES)
    content = (tmp_path / "expected.jsonl").read_bytes()
    (tmp_path / "expected.jsonl").unlink()
    return content


def unpacked(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_a_line_of_the_output_is_the_line_of_the_input_with_its_answer(expected, model, source):
    given, found = source.read_text("utf-8").split("\n"), [json.loads(line) for line in expected.splitlines()]
    assert found[7]["line"] == 8
    assert found[31]["id"] == 31
    assert all(("error" in line) == (i in (7, 31)) for i, line in enumerate(found))
    for i in (0, 1, 59):
        record = json.loads(given[i])
        answer = model.generate(record["prompt"], details=True, **QUICK, seed=i)
        assert found[i] == {**record, "completion": answer.text, "finish_reason": answer.finish_reason}


class Ended(BaseException):
    """What ends a run as a kill does: nothing is cleaned up that the next run relies on."""


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_run_that_is_ended_at_any_line_goes_on_there(do, expected, tmp_path, monkeypatch, name):
    monkeypatch.setattr(output, "OFTEN", 0.0)
    chance = random.Random(1)
    path, ends = tmp_path / name, 0

    def end(state):
        if chance.random() < 0.1:
            raise Ended

    while True:
        try:
            state = do(name, report=end)
            break  # which it comes to, since no run does again what is on the disk
        except Ended:
            ends += 1
            with path.open("ab") as file:
                file.write(chance.randbytes(chance.randrange(40)))  # a piece that was half written
    assert ends > 2
    assert state.lines == LINES
    assert state.failed == 2
    assert unpacked(path) == expected
    assert {found.name for found in tmp_path.iterdir()} == {"in.jsonl", name}


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_full_disk_is_an_error_and_the_run_goes_on_once_there_is_room(do, expected, tmp_path, monkeypatch, name):
    monkeypatch.setattr(output, "OFTEN", 0.0)
    real, room = os.write, 6000

    def write(file, content):
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        written = real(file, bytes(content)[: min(room, 50)])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left") as caught:
        do(name)
    assert str(tmp_path / name) in str(caught.value.filename)
    room = 10**9
    assert do(name).resumed > 0
    assert unpacked(tmp_path / name) == expected


def test_an_output_without_a_first_checkpoint_is_not_taken_for_a_complete_one(do, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "OFTEN", 0.0)
    with monkeypatch.context() as full:

        def note(*_):
            raise OSError(28, "No space left on device")

        full.setattr(journal.Journal, "note", note)
        with pytest.raises(OSError, match="No space left"):
            do()
    assert do().resumed == 0
    assert (tmp_path / "out.jsonl").read_bytes() == expected


def test_what_is_written_is_on_the_disk_before_the_journal_says_so(do, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "OFTEN", 0.0)
    order, sync = [], os.fsync

    def fsync(file):
        name = Path(f"/proc/self/fd/{file}").readlink().name
        order.append((name, os.fstat(file).st_size))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)

    def end(state):
        if state.lines == 9:
            raise Ended

    with pytest.raises(Ended):
        do(report=end)
    sizes = [json.loads(line)[2] for line in (tmp_path / "out.jsonl.journal").read_text().splitlines()[1:]]
    synced = [size for name, size in order if name == "out.jsonl"]
    assert sizes
    assert synced == sizes
    assert [name for name, _ in order if name.startswith("out")][-2:] == ["out.jsonl", "out.jsonl.journal"]


def ended(do, monkeypatch, **how):
    """Leave a run unfinished."""
    monkeypatch.setattr(output, "OFTEN", 0.0)

    def end(state):
        if state.lines == 20:
            raise Ended

    with pytest.raises(Ended):
        do(report=end, **how)


def test_a_run_does_not_go_on_with_another_input(do, source, tmp_path, monkeypatch):
    ended(do, monkeypatch)
    before = (tmp_path / "out.jsonl").read_bytes()
    source.write_text(source.read_text("utf-8").replace("a", "b"), "utf-8")
    with pytest.raises(DiffutronError, match="the input has changed"):
        do()
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert do(restart=True).resumed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {**QUICK, "steps": 3}}, "steps was 2 and is 3"),
        ({"options": {**QUICK, "seed": 3}}, "seed was None and is 3"),
        ({"variant": "int8"}, "variant was 'fp32' and is 'int8'"),
    ],
)
def test_a_run_does_not_go_on_with_other_options(do, expected, tmp_path, monkeypatch, change, message):
    ended(do, monkeypatch)
    with pytest.raises(DiffutronError, match=message):
        do(**change)
    assert do().resumed > 0
    assert (tmp_path / "out.jsonl").read_bytes() == expected


def test_an_output_that_something_else_has_shortened_is_refused(do, tmp_path, monkeypatch):
    ended(do, monkeypatch)
    (tmp_path / "out.jsonl").write_bytes(b"")
    with pytest.raises(DiffutronError, match="something else has changed it"):
        do()


def test_what_is_done_is_not_done_again(do, tmp_path):
    do()
    before = (tmp_path / "out.jsonl").stat()
    assert do() is None
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    assert do(restart=True).lines == LINES


def test_a_file_of_something_else_is_not_overwritten(do, tmp_path):
    (tmp_path / "out.jsonl").write_text("my thesis")
    assert do() is None
    assert (tmp_path / "out.jsonl").read_text() == "my thesis"


def test_another_run_of_the_same_output_is_refused(do, tmp_path):
    def second(state):
        with pytest.raises(DiffutronError, match=r"another process is writing out\.jsonl"):
            do()

    assert do(report=second).lines == LINES


def test_a_journal_that_is_none_is_refused(do, tmp_path):
    (tmp_path / "out.jsonl.journal").write_text("my thesis\n")
    with pytest.raises(DiffutronError, match="not the journal of a run"):
        do()
    assert (tmp_path / "out.jsonl.journal").read_text() == "my thesis\n"


def test_an_empty_input_has_an_empty_output(do, source, tmp_path):
    source.write_bytes(b"")
    assert do().lines == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert do("out.jsonl.gz").lines == 0
    assert unpacked(tmp_path / "out.jsonl.gz") == b""


def test_a_table_keeps_its_columns(do, source, tmp_path, monkeypatch):
    source.write_text('id,prompt\n1,"a\nb"\n2\n', "utf-8")
    monkeypatch.setattr(jobs, "kind_of", lambda name, given=None: "csv")
    assert do("out.csv").failed == 1
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["prompt"], first["error"]) == ("1", "a\nb", "")
    assert first["finish_reason"] in ("stop", "length")
    assert (second["id"], second["completion"]) == ("", "")
    assert second["error"].startswith("row 2 has 1 cells, and there are 2 columns")


def unchanged(do, folder, error, **fields):
    """Check that a run fails, and leaves its folder as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(error):
        do(**fields)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_what_cannot_be_done_is_refused_before_the_model_is_looked_for(source, tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "empty.csv").touch()

    def attempt(**fields):
        usual = {"source": str(source), "target": str(tmp_path / "out.jsonl")}
        run(Job(**usual | {name: str(value) for name, value in fields.items()}), pytest.fail, pytest.fail)

    for error, fields in [
        (FileNotFoundError, {"source": tmp_path / "none.jsonl"}),
        (IsADirectoryError, {"source": tmp_path / "folder.jsonl"}),
        (InputError, {"source": tmp_path / "empty.csv"}),
        (OptionError, {"source": tmp_path / "in.json"}),
        (FileNotFoundError, {"target": tmp_path / "none" / "out.jsonl"}),
        (IsADirectoryError, {"target": tmp_path / "folder.jsonl"}),
        (OptionError, {"target": tmp_path / "out.csv"}),
        (OptionError, {"target": source}),
    ]:
        unchanged(attempt, tmp_path, error, **fields)
    with pytest.raises(OptionError, match="processes=0"):
        run(Job(source=str(source), target=str(tmp_path / "out.jsonl"), processes=0), pytest.fail, pytest.fail)


def test_a_model_that_cannot_be_found_leaves_nothing(source, tmp_path):
    def find():
        raise BundleFileError("there is none")

    job = Job(source=str(source), target=str(tmp_path / "out.jsonl"))
    unchanged(lambda: run(job, find, pytest.fail), tmp_path, BundleFileError)


def test_options_that_the_model_refuses_leave_nothing(do, tmp_path):
    unchanged(do, tmp_path, OptionError, options={"suppress_tokens": [10**9]})


def test_a_line_is_bounded(do, source):
    source.write_bytes(b'{"prompt": "' + b"a" * MOST_LINE + b'"}\n{"prompt": "b"}\n')
    state = do()
    assert (state.lines, state.failed) == (2, 1)


def test_without_locks_a_run_is_done_all_the_same(do, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    assert do().lines == LINES
