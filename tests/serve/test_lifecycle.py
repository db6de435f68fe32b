"""A server from its start to its end, as a process."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.serve.programs import (
    ANSWER,
    CLIENT,
    SECONDS,
    Asking,
    accepted,
    ask,
    eventually,
    figure,
    hang_up,
    started,
    wait_until_ready,
)


def text(answer):
    return answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_it_says_where_it_is_answers_and_ends_at_a_signal(number, code):
    with started() as program:
        wait_until_ready(program.url)
        assert text(ask(program.url)) == ANSWER
        program.process.send_signal(number)
        assert program.ended() == code
    assert [line for line in program.lines if not line.startswith(("{", "diffutron-ort: "))] == []
    program.found(r"ready after \d+\.\d\d s")


def test_it_listens_while_it_loads():
    with started() as program:
        assert CLIENT.get(f"{program.url}/health").status_code == 200  # whatever the model does
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0


def test_told_to_end_it_loses_nothing_that_it_has_accepted(tmp_path):
    gate = tmp_path / "gate"
    with started("--grace", "600", "--max-batch", "4", gate=gate) as program:
        url = program.url
        wait_until_ready(url)
        asking = accepted(url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        refused = ask(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert CLIENT.get(f"{url}/ready").status_code == 503
        assert CLIENT.get(f"{url}/health").status_code == 200
        gate.touch()
        assert program.ended() == 0
        answers = [one.answered() for one in asking]
        assert [answer.status_code for answer in answers] == [200] * 6
        assert all(len(answer.json()["choices"]) == 4 for answer in answers[::2])
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers[1::2])


def test_what_takes_longer_than_the_grace_is_told_so(tmp_path):
    with started("--grace", "0.3", "--max-batch", "4", gate=tmp_path / "gate") as program:
        wait_until_ready(program.url)
        asking = accepted(program.url)
        program.process.send_signal(signal.SIGINT)
        assert program.ended() == 130
        answers = [one.answered() for one in asking]
        assert [answer.status_code for answer in answers] == [503, 200] * 3
        assert all("the server has ended" in answer.text for answer in answers)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(number, code, tmp_path):
    with started("--grace", "600", "--max-batch", "4", gate=tmp_path / "gate") as program:
        wait_until_ready(program.url)
        asking = accepted(program.url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        program.process.send_signal(number)
        assert program.ended() == code
        assert all(isinstance(one.answered(), httpx.HTTPError) for one in asking)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(processes, tmp_path):
    with started(str(tmp_path), "--processes", processes) as program:
        assert program.ended() == 1
        said = [line for line in program.lines if "http://" not in line]
    assert len(said) == 1
    assert str(tmp_path) in said[0]
    assert "Traceback" not in said[0]


def test_a_place_that_cannot_be_had_is_said_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for flags, said in (
            (("--port", port), f"port {port} of 127.0.0.1 is in use"),
            (("--host", "192.0.2.1"), "192.0.2.1 is no address of this machine"),
            (("--host", "no.such.name.invalid"), "host 'no.such.name.invalid' cannot be found"),
            (("--uds", "/proc/none/socket"), "cannot listen on /proc/none/socket"),
        ):
            with started("--name", "n", *flags) as program:
                assert program.ended() == 1
                assert said in program.lines[-1]
                assert not any("http://" in line or "Traceback" in line for line in program.lines)


def test_it_listens_at_ipv6():
    if not socket.has_ipv6:
        pytest.skip("there is no IPv6")
    with started("--host", "::1") as program:
        assert program.url.startswith("http://[::1]:")
        wait_until_ready(program.url)
        assert text(ask(program.url)) == ANSWER


def test_an_abandoned_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = str(tmp_path / "socket")
    with started("--uds", path) as program:
        program.found("ready after")
        client = httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=SECONDS)
        assert client.get("http://any.example/ready").status_code == 200
        with started("--uds", path) as second:
            assert second.ended() == 1
            assert "in use" in second.lines[-1]
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(SECONDS)
    with started("--uds", path) as program:
        program.found("ready after")
        client = httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=SECONDS)
        assert client.get("http://x/ready").status_code == 200
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0
    assert not Path(path).exists()


@pytest.mark.parametrize("streams", [False, True])
def test_a_pass_that_hangs_ends_the_process(streams, tmp_path):
    with started("--pass-timeout", "1", gate=tmp_path / "gate") as program:
        wait_until_ready(program.url)
        asking = Asking(program.url, stream=streams)
        assert program.ended() == 1
        assert "the model does not answer" in asking.answered().text
        program.found("more than 1 s")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_it_goes_on_when_nobody_reads_its_log(processes, tmp_path):
    path = str(tmp_path / "socket")
    command = [sys.executable, "-m", "diffutron_ort", "serve", "--uds", path, "--processes", processes]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    process.stderr.close()
    client = httpx.Client(transport=httpx.HTTPTransport(uds=path, retries=9), timeout=SECONDS)  # it may not listen yet
    eventually(lambda: Path(path).exists() and client.get("http://x/ready").status_code == 200)
    assert client.get("http://x/nothing").status_code == 404
    assert client.get("http://x/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_who_hangs_up_is_out_of_the_batch(tmp_path):
    gate = tmp_path / "gate"
    with started(gate=gate) as program:
        url = program.url
        wait_until_ready(url)
        hang_up(url, n=48)
        program.found('"status": 499, .*"complete": false, .*"end": "gone"')
        hang_up(url, n=48, stream=True)
        program.found('"status": 200, .*"complete": false, .*"end": "gone"')
        gate.touch()
        eventually(lambda: not figure(url, "diffutron_running_") + figure(url, "diffutron_waiting_"))
        assert figure(url, "diffutron_pass_sequences_count") == 1  # the one that ran meanwhile
        assert text(ask(url)) == ANSWER


def test_many_idle_connections_keep_nobody_from_answers():
    with started("--header-timeout", "600") as program, ExitStack() as stack:
        url = httpx.URL(program.url)
        wait_until_ready(program.url)
        idle = [stack.enter_context(socket.create_connection((url.host, url.port))) for _ in range(300)]
        assert text(ask(program.url)) == ANSWER
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0
        assert all(one.recv(1) == b"" for one in idle)


def test_paths_methods_and_failures_have_the_form_of_the_api():
    with started() as program:
        url = program.url
        wait_until_ready(url)
        missing, wrong = CLIENT.get(f"{url}/nothing"), CLIENT.delete(f"{url}/v1/models")
        assert (missing.status_code, wrong.status_code) == (404, 405)
        assert missing.json()["error"]["type"] == wrong.json()["error"]["type"] == "invalid_request_error"
        assert "GET" in wrong.headers["allow"]
        head = CLIENT.head(f"{url}/v1/models")
        assert (head.status_code, head.content) == (200, b"")
