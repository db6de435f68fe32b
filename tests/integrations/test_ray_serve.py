"""The server on Ray Serve: an answer, a stream, and what is refused, through Ray's proxy on a local cluster."""

import json
import re
import socket
import time
from http.client import HTTPConnection

import pytest

pytestmark = pytest.mark.ray
QUESTION = "Ters sırala: kitap, deniz, okul, elma"
UNSURE = {"temperature": 20.0, "max_tokens": 24, "seed": 5}  # so that an answer has many pieces, which the seed decides
LONG = {"stream": True, "diffusing": True, "steps": 64, "max_tokens": 200}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A file without which no pass of the model ends; at first it is there."""
    found = tmp_path_factory.mktemp("gate") / "open"
    found.touch()
    return found


@pytest.fixture(scope="module")
def port(cluster, gate):
    """The port of Ray's proxy, behind which the server runs."""
    import ray
    from ray import serve

    from diffutron_ort.integrations import ray_serve
    from diffutron_ort.serve.settings import Settings

    class Replica(ray_serve.Replica):
        def __init__(self, settings):
            super().__init__(settings)
            self._service._observed._forward = held(self._service._observed._forward)

    def held(forward):
        def wait(given):
            while not gate.exists():
                time.sleep(0.01)
            return forward(given)

        wait.batch_invariant = forward.batch_invariant
        return wait

    settings = Settings(api_keys=("secret",), pass_timeout=600)
    ray.init(cluster.address, log_to_driver=False)
    try:
        with socket.socket() as ours, pytest.MonkeyPatch.context() as patch:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Ray's: it keeps the port from all others
            ours.bind(("127.0.0.1", 0))
            number = ours.getsockname()[1]
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": number})
            patch.setattr(ray_serve, "Replica", Replica)
            serve.run(ray_serve.application(settings, ray_actor_options={"num_cpus": 1}))
            yield number
    finally:
        serve.shutdown()
        ray.shutdown()


def ask(port, key="secret", **fields):
    """Return the response to a question."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    body = {"model": "nano", "messages": [{"role": "user", "content": QUESTION}], **UNSURE, **fields}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection.getresponse()


def hung_up(port):
    """How many requests have ended because their client hung up."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics", headers={"authorization": "Bearer secret"})
    found = re.search(r'requests_total\{end="gone"\} (\d+)', connection.getresponse().read().decode())
    return int(found[1]) if found else 0


def test_an_answer_and_a_stream_are_the_librarys_text(port, model):
    expected = model.generate(QUESTION, temperature=20.0, max_new_tokens=24, seed=5)
    response = ask(port)
    assert response.status == 200
    assert json.load(response)["choices"][0]["message"]["content"] == expected

    response = ask(port, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix(b"data: ") for line in response.read().splitlines() if line]
    assert events.pop() == b"[DONE]"
    pieces = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert len(list(filter(None, pieces))) > 1
    assert "".join(pieces) == expected


def test_a_stream_is_sent_as_it_is_made_and_ends_where_the_client_hangs_up(port, gate):
    gate.unlink()
    response = ask(port, **LONG)
    assert json.loads(response.readline().removeprefix(b"data: "))["diffutron"]["masks"] == 200
    gate.touch()
    assert response.read().endswith(b"data: [DONE]\n\n")

    gate.unlink()
    response = ask(port, **LONG)
    response.readline()
    response.close()
    deadline = time.monotonic() + 60
    while hung_up(port) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    gate.touch()


@pytest.mark.parametrize(("fields", "status"), [({"key": "wrong"}, 401), ({"steps": 0}, 400)])
def test_what_the_server_refuses_is_refused(fields, status, port):
    response = ask(port, **fields)
    assert response.status == status
    assert json.load(response)["error"]["message"]
