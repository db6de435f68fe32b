"""A server from its start to its end, as a process."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.serve.programs import (
    ANSWER,
    CLIENT,
    SLOWER,
    Asking,
    ask,
    asked_slowly,
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


def test_told_to_end_it_loses_nothing_that_it_has_accepted():
    with started("--grace", "200", "--max-batch", "4") as program:
        url = program.url
        wait_until_ready(url)
        asking = asked_slowly(url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        refused = ask(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert CLIENT.get(f"{url}/ready").status_code == 503
        assert CLIENT.get(f"{url}/health").status_code == 200
        assert program.ended() == 0
        for thread in asking:
            thread.join(10)
        assert [one.answer.status_code for one in asking] == [200] * 6
        assert all(len(one.answer.json()["choices"]) == 4 for one in asking[::2])
        assert all(one.answer.text.endswith("data: [DONE]\n\n") for one in asking[1::2])


def test_what_takes_longer_than_the_grace_is_told_so():
    with started("--grace", "0.3", "--max-batch", "4") as program:
        url = program.url
        wait_until_ready(url)
        asking = asked_slowly(url)
        program.process.send_signal(signal.SIGINT)
        assert program.ended(20) == 130
        for thread in asking:
            thread.join(10)
        ended = [one.answer for one in asking if "the server has ended" in one.answer.text]
        assert len(ended) >= 5
        assert {answer.status_code for answer in ended} == {200, 503}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(number, code):
    with started("--max-batch", "4") as program:
        url = program.url
        wait_until_ready(url)
        asking = asked_slowly(url)
        program.process.send_signal(signal.SIGTERM)
        program.found("finishing what was accepted")
        program.process.send_signal(number)
        assert program.ended(3) == code
        for thread in asking:
            thread.join(10)


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
        client = httpx.Client(transport=httpx.HTTPTransport(uds=path))
        assert client.get("http://any.example/ready").status_code == 200
        with started("--uds", path) as second:
            assert second.ended() == 1
            assert "in use" in second.lines[-1]
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait(10)
    with started("--uds", path) as program:
        program.found("ready after")
        assert httpx.Client(transport=httpx.HTTPTransport(uds=path)).get("http://x/ready").status_code == 200
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0
    assert not Path(path).exists()


def test_a_pass_that_hangs_ends_the_process():
    with started("1", module="tests.serve.hanging") as program:
        url = program.url
        wait_until_ready(url)
        asking = [Asking(url, stream=streams) for streams in (False, True)]
        assert program.ended(20) == 1
        for thread in asking:
            thread.join(10)
            assert "the model does not answer" in thread.answer.text
        program.found("more than 1 s")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_it_goes_on_when_nobody_reads_its_log(processes, tmp_path):
    path = str(tmp_path / "socket")
    command = [sys.executable, "-m", "diffutron_ort", "serve", "--uds", path, "--processes", processes]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    process.stderr.close()
    client = httpx.Client(transport=httpx.HTTPTransport(uds=path, retries=100), timeout=60)
    while not Path(path).exists() or client.get("http://x/ready").status_code != 200:
        time.sleep(0.1)
    assert client.get("http://x/nothing").status_code == 404
    assert client.get("http://x/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_who_hangs_up_is_out_of_the_batch():
    with started() as program:
        url = program.url
        wait_until_ready(url)
        hang_up(url, **SLOWER)
        program.found('"status": 499, .*"complete": false, .*"end": "gone"')
        hang_up(url, stream=True, **SLOWER)
        program.found('"status": 200, .*"complete": false, .*"end": "gone"')
        assert text(ask(url)) == ANSWER
        while figure(url, "diffutron_running_") + figure(url, "diffutron_waiting_"):
            time.sleep(0.01)


def test_many_idle_connections_keep_nobody_from_answers():
    with started() as program, ExitStack() as stack:
        url = httpx.URL(program.url)
        wait_until_ready(program.url)
        idle = [stack.enter_context(socket.create_connection((url.host, url.port))) for _ in range(300)]
        begun = time.monotonic()
        assert text(ask(program.url)) == ANSWER
        assert time.monotonic() - begun < 20
        program.process.send_signal(signal.SIGTERM)
        assert program.ended(20) == 0
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
