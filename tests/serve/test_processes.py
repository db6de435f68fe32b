"""Several processes on one socket: killed, hanging, failing, and ended together."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from diffutron_ort.errors import DiffutronError
from diffutron_ort.serve.batching.metrics import Metrics
from diffutron_ort.serve.processes.supervisor import METRICS, Supervisor
from diffutron_ort.serve.settings import Settings
from tests.serve.programs import ANSWER, CLIENT, accepted, ask, eventually, figure, started, wait_until_ready
from tests.serve.test_lifecycle import text


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers(program, count=2):
    """Return the ids of those that have been ready, the last as many."""
    return [int(program.found(r"worker (\d+): ready", place + 1)[1]) for place in range(count)]


def test_a_killed_worker_is_replaced_and_the_figures_are_added_up(tmp_path):
    with started("--processes", "2", TMPDIR=str(tmp_path)) as program:
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
    assert list(tmp_path.iterdir()) == []


def test_told_to_end_they_lose_nothing_that_they_have_accepted(tmp_path):
    gate = tmp_path / "gate"
    with started("--processes", "2", "--grace", "600", "--max-batch", "4", gate=gate) as program:
        pids = workers(program)
        asking = accepted(program.url)
        for pid in pids:  # as systemd does to all of a service, and a terminal by another signal
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        program.process.send_signal(signal.SIGINT)
        gate.touch()
        assert program.ended() == 130
        assert [one.answered().status_code for one in asking] == [200] * 6


def test_a_second_signal_kills_them(tmp_path):
    with started("--processes", "2", "--grace", "600", "--max-batch", "4", gate=tmp_path / "gate") as program:
        pids = workers(program)
        asking = accepted(program.url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 143
        assert not any(map(is_alive, pids))
        assert all(isinstance(one.answered(), httpx.HTTPError) for one in asking)


def test_one_whose_pass_hangs_is_replaced(tmp_path):
    with started("--processes", "2", "--pass-timeout", "1", gate=tmp_path / "gate") as program:
        workers(program)
        answer = ask(program.url)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        program.found(r"worker \d+ has ended with code 1: starting another")
        workers(program, 3)


def test_one_that_is_stopped_is_killed_and_replaced():
    with started("--processes", "2", "--pass-timeout", "5") as program:  # and as long again without a sign of life
        first = workers(program)
        os.kill(first[1], signal.SIGSTOP)
        program.found(f"worker {first[1]} gives no sign of life: killing it")
        workers(program, 3)


def test_workers_end_when_nobody_supervises_them(tmp_path):
    with started("--processes", "2", TMPDIR=str(tmp_path)) as program:  # which keeps the folder that is left
        pids = workers(program)
        program.process.kill()
        eventually(lambda: not any(map(is_alive, pids)))


def test_one_at_whom_a_signal_is_aimed_finishes_and_is_replaced():
    with started("--processes", "2") as program:
        first = workers(program)
        os.kill(first[0], signal.SIGTERM)
        program.found(f"worker {first[0]} has ended with code 0: starting another")
        workers(program, 3)
        wait_until_ready(program.url)
        assert CLIENT.get(f"{program.url}/health").status_code == 200


class Failing:
    """A process that ends just after it has been heard; its last words are heard the next time."""

    id, was_ready, is_silent, failure, has_ended = 1, False, False, "", False

    def hear(self):
        self.failure, self.has_ended = "there is no model" if self.has_ended else "", True


def test_the_last_words_of_one_that_ends_meanwhile_are_heard():
    said = []
    supervisor, process = Supervisor(None, Settings(), said.append, None), Failing()
    assert supervisor._looked_after(process) is process
    with pytest.raises(DiffutronError, match="there is no model"):
        supervisor._looked_after(process)
    assert said == []


def test_figures_are_told_while_a_process_makes_its_files(tmp_path, monkeypatch):
    monkeypatch.setenv(METRICS, str(tmp_path))
    (tmp_path / "counter_1.db").touch()
    assert Metrics().text() == b""
