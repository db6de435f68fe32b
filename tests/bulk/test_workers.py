"""Several processes: the same answers in the same order, whatever becomes of the processes."""

import json
import multiprocessing
import os
import signal
import threading
from functools import partial

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bulk import workers
from diffutron_ort.bulk.answering import Terms, answer
from diffutron_ort.bulk.formats import Jsonl
from diffutron_ort.bulk.workers import Pool, Work
from diffutron_ort.errors import BundleFileError, DiffutronError, OptionError
from tests.bulk import fakes
from tests.bulk.fakes import QUICK, WORD

LINES = 120
LOAD = partial(Diffutron.from_pretrained, threads=1)


def prompts():
    return [{"prompt": f"{i}" + " a" * (i * 5 % 17)} for i in range(LINES)]


def rows(records):
    return iter([json.dumps(record).encode() for record in records])


def answers(load, given, count=2, start=0, **options):
    """Return what a pool answers."""
    with Pool(Work(load, Terms(options={**QUICK, **options}), Jsonl()), count) as pool:
        found = list(pool.answers(rows(given), start))
    assert [outcome.number for outcome in found] == list(range(start, start + len(given)))
    assert not multiprocessing.active_children()
    return [outcome.record for outcome in found]


def test_several_processes_answer_as_one_does(model):
    given = prompts()
    assert answers(LOAD, given, 3, start=4) == list(answer(model, given, start=4, **QUICK))


def test_no_row_is_no_answer():
    assert answers(LOAD, []) == []


def test_a_process_that_is_killed_is_replaced(model, tmp_path):
    given = prompts()
    given[50] = {"prompt": WORD}
    assert answers(partial(fakes.load_killed_once, tmp_path), given) == list(answer(model, given, **QUICK))
    assert (tmp_path / "killed").exists()


def test_a_line_that_kills_its_process_fails_alone(model, tmp_path):
    given, expected = prompts(), list(answer(model, prompts(), **QUICK))
    given[10] = given[70] = {"prompt": WORD}
    found = answers(partial(fakes.load_killed, tmp_path), given)
    for i in (10, 70):
        assert found[i] == {
            "prompt": WORD,
            "error": "the process that answers it died 2 times: killed by signal 9; if memory is short, take fewer "
            "processes or a smaller variant",
        }
    assert [line for i, line in enumerate(found) if i not in (10, 70)] == [
        line for i, line in enumerate(expected) if i not in (10, 70)
    ]


def test_processes_killed_from_outside_lose_nothing(model):
    given = prompts()
    with Pool(Work(LOAD, Terms(options=QUICK), Jsonl()), 2) as pool:
        found = []
        for outcome in pool.answers(rows(given)):
            found.append(outcome.record)
            if outcome.number in (5, 60):
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGKILL)
    assert found == list(answer(model, given, **QUICK))


def test_processes_that_all_die_are_an_error():
    with pytest.raises(DiffutronError, match="9 worker processes in a row died: killed by signal 9"):
        answers(fakes.load_nothing, prompts())
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("load", "options", "error"),
    [
        (partial(Diffutron.from_pretrained, "/none"), {}, BundleFileError),
        (LOAD, {"penalty_exempt": [10**9]}, OptionError),
    ],
)
def test_an_error_in_a_process_is_an_error_here(load, options, error):
    with pytest.raises(error):
        answers(load, prompts(), **options)
    assert not multiprocessing.active_children()


def test_little_is_read_ahead(model):
    taken = 0

    def endless():
        nonlocal taken
        slow = {"max_new_tokens": 40, "steps": 40, "early_end": False}
        while True:
            taken += 1
            yield json.dumps({"prompt": "a", "options": slow} if taken == 1 else {}).encode()

    with Pool(Work(LOAD, Terms(options=QUICK), Jsonl()), 2) as pool:
        next(pool.answers(endless()))
    assert taken <= 2 * workers.AHEAD * workers.PORTION * 8


def test_a_process_ends_when_the_one_that_began_it_is_gone():
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=workers.answer_lines, args=(theirs, Work(LOAD, Terms(options=QUICK), Jsonl()))
    )
    process.start()
    theirs.close()
    assert ours.poll(120)
    ours.close()
    process.join(120)
    assert process.exitcode == 1


def test_long_lines_do_not_block_each_other(model):
    given = [{"prompt": "a", "text": "x" * 900_000} for _ in range(24)]
    watch = threading.Timer(300, lambda: os.kill(os.getpid(), signal.SIGINT))
    watch.start()
    try:
        found = answers(LOAD, given)
    finally:
        watch.cancel()
    assert all("completion" in line for line in found)
