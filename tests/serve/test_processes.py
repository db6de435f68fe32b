"""Several processes on one socket: killed, hanging, failing, and ended together."""

import os
import signal
import tempfile
import time
from pathlib import Path

from tests.serve.programs import ANSWER, CLIENT, ask, asked_slowly, eventually, figure, started, wait_until_ready
from tests.serve.test_lifecycle import text


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def workers(program, count=2):
    """Return the ids of those that have been ready, the last as many."""
    return [int(program.found(r"worker (\d+): ready", place + 1)[1]) for place in range(count)]


def folders():
    return set(Path(tempfile.gettempdir()).glob("diffutron-metrics-*"))


def test_a_killed_worker_is_replaced_and_the_figures_are_added_up():
    before = folders()
    with started("--processes", "2") as program:
        first = workers(program)
        url = program.url
        assert {text(ask(url)) for _ in range(6)} == {ANSWER}
        eventually(lambda: figure(url, 'diffutron_requests_total{end="ok"}') == 6)  # counted once they are answered
        os.kill(first[0], signal.SIGKILL)
        for _ in range(3):  # by the other one, or its successor
            assert text(ask(url)) == ANSWER
        program.found(f"worker {first[0]} has ended by SIGKILL: starting another")
        third = workers(program, 3)[2]
        assert third not in first
        eventually(lambda: figure(url, 'diffutron_requests_total{end="ok"}') == 9)
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0
        assert not any(map(is_alive, [*first, third]))
    assert folders() <= before


def test_told_to_end_they_lose_nothing_that_they_have_accepted():
    with started("--processes", "2", "--grace", "200", "--max-batch", "4") as program:
        pids = workers(program)
        url = program.url
        asking = asked_slowly(url)
        for pid in pids:  # as systemd does to all of a service, and a terminal by another signal
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        program.process.send_signal(signal.SIGINT)
        assert program.ended() == 130
        for thread in asking:
            thread.join(10)
        assert [one.answer.status_code for one in asking] == [200] * 6


def test_a_second_signal_kills_them():
    with started("--processes", "2", "--max-batch", "4") as program:
        pids = workers(program)
        asking = asked_slowly(program.url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        program.process.send_signal(signal.SIGTERM)
        assert program.ended(5) == 143
        assert not any(map(is_alive, pids))
        for thread in asking:
            thread.join(10)


def test_one_whose_pass_hangs_is_replaced():
    with started("2", module="tests.serve.hanging") as program:
        workers(program)
        answer = ask(program.url)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        program.found(r"worker \d+ has ended with code 1: starting another")
        workers(program, 3)


def test_one_that_is_stopped_is_killed_and_replaced():
    with started("--processes", "2", "--pass-timeout", "1") as program:
        first = workers(program)
        os.kill(first[1], signal.SIGSTOP)
        program.found(f"worker {first[1]} gives no sign of life: killing it")
        workers(program, 3)


def test_workers_end_when_nobody_supervises_them():
    with started("--processes", "2") as program:
        pids = workers(program)
        program.process.kill()
        for _ in range(200):
            if not any(map(is_alive, pids)):
                break
            time.sleep(0.1)
        assert not any(map(is_alive, pids))


def test_one_at_whom_a_signal_is_aimed_finishes_and_is_replaced():
    with started("--processes", "2") as program:
        first = workers(program)
        os.kill(first[0], signal.SIGTERM)
        program.found(f"worker {first[0]} has ended with code 0: starting another")
        workers(program, 3)
        wait_until_ready(program.url)
        assert CLIENT.get(f"{program.url}/health").status_code == 200
