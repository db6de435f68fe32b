"""What stands before the app: each request that it refuses, and what it leaves of the others."""

import asyncio
import json

import httpx
import pytest

from diffutron_ort.serve.guards.edge import guarded
from diffutron_ort.serve.settings import Settings
from tests.serve.fakes import app

LOCAL = {"host": "127.0.0.1:8000"}
JSON = {"content-type": "application/json"}


def ask(settings, method, path, headers=None, content=None):
    """Return the answer of the guarded app."""

    async def call():
        transport = httpx.ASGITransport(guarded(app, settings), client=("192.0.2.7", 4), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(call())


def refused(answer):
    """Return the status of a refusal, whose form is the API's, and its message."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    return answer.status_code, error["message"]


@pytest.mark.parametrize(
    ("host", "settings", "status"),
    [
        ("127.0.0.1:8000", {}, 200),
        ("127.0.0.1", {}, 200),
        ("localhost:9", {}, 200),
        ("LOCALHOST", {}, 200),
        ("[::1]:8000", {}, 200),
        ("evil.example", {}, 421),
        ("evil.example:8000", {}, 421),
        ("localhost.evil.example", {}, 421),
        ("127.0.0.1.evil.example", {}, 421),
        ("192.0.2.1", {}, 421),
        ("", {}, 421),
        ("ai.example", {"allow_hosts": "ai.example"}, 200),
        ("AI.example:8443", {"allow_hosts": "ai.example"}, 200),
        ("ai.example:8443", {"allow_hosts": "ai.example:8443"}, 200),
        ("ai.example:8444", {"allow_hosts": "ai.example:8443"}, 421),
        ("any.example", {"host": "0.0.0.0"}, 200),
        ("any.example", {"host": "0.0.0.0", "allow_hosts": "ai.example"}, 421),
        ("192.0.2.1:8000", {"host": "0.0.0.0", "allow_hosts": "ai.example"}, 200),
    ],
)
def test_only_names_of_this_server_are_answered(host, settings, status):
    answer = ask(Settings(**settings), "GET", "/health", {"host": host})
    assert answer.status_code == status
    if status == 421:
        assert "--allow-host" in refused(answer)[1]


@pytest.mark.parametrize(
    ("origin", "cors", "status", "allowed"),
    [
        (None, (), 200, None),
        ("http://127.0.0.1:8000", (), 200, None),
        ("https://127.0.0.1:8000", (), 200, None),  # TLS ends before this server
        ("http://127.0.0.1:3000", (), 403, None),
        ("https://evil.example", (), 403, None),
        ("null", (), 403, None),
        ("http://[", (), 403, None),
        ("https://good.example", ("https://good.example",), 200, "https://good.example"),
        ("https://good.example:8443", ("https://good.example",), 403, None),
        ("http://good.example", ("https://good.example",), 403, None),
        ("app://notes.example", ("app://notes.example",), 200, "app://notes.example"),
        ("https://any.example", ("*",), 200, "https://any.example"),
    ],
)
def test_pages_of_other_sites_are_refused_unless_allowed(origin, cors, status, allowed):
    answer = ask(Settings(cors=cors), "POST", "/echo", {**JSON, **({"origin": origin} if origin else {})}, b"{}")
    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") == allowed
    if status == 403:
        assert "--cors" in refused(answer)[1]


def test_ports_that_browsers_leave_out_are_the_same_origin():
    headers = {"host": "localhost:80", "origin": "http://localhost", **JSON}
    assert ask(Settings(), "POST", "/echo", headers, b"{}").status_code == 200


@pytest.mark.parametrize("path", ["/echo", "/stream", "/fail", "/missing", "/v1/without-a-key"])
def test_allowed_pages_may_read_every_answer(path):
    settings = Settings(cors="https://good.example", api_keys="k")
    key = {} if "without" in path else {"authorization": "Bearer k"}
    answer = ask(settings, "POST", path, {"origin": "https://good.example", **JSON, **key}, b"{}")
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_is_answered_without_a_key_and_without_the_app():
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    settings = Settings(cors="https://good.example", api_keys="k")
    answer = ask(settings, "OPTIONS", "/fail", {"origin": "https://good.example", **asks})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert refused(ask(settings, "OPTIONS", "/fail", {"origin": "https://evil.example", **asks}))[0] == 403
    assert refused(ask(settings, "OPTIONS", "/fail", {"host": "evil.example", **asks}))[0] == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer one"}, 200),
        ({"authorization": "bearer  two "}, 200),
        ({"x-api-key": "two"}, 200),
        ({"authorization": "Bearer three"}, 401),
        ({"authorization": "Bearer on"}, 401),
        ({"authorization": "Bearer one two"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic one"}, 401),
        ({"authorization": "one"}, 401),
        ({"authorization": "Bearer \xff".encode("latin-1").decode("latin-1")}, 401),
        ({"x-api-key": ""}, 401),
    ],
)
def test_one_of_the_keys_is_needed(headers, status):
    headers = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = ask(Settings(api_keys=["one", "two"]), "GET", "/echo", headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_two_keys_at_once_are_none():
    headers = [("authorization", "Bearer one"), ("authorization", "Bearer one")]
    assert ask(Settings(api_keys="one"), "GET", "/echo", headers).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/HEALTH", 401),
        ("/health/", 401),
        ("/v1/models", 401),
        ("/metrics", 401),
    ],
)
def test_all_but_the_public_paths_need_a_key(path, status):
    assert ask(Settings(api_keys="one"), "GET", path).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),
        ({"content-type": "Application/JSON; charset=utf-8"}, 200),
        ({"content-type": "text/plain"}, 415),  # which a page of another site may send without asking
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({**JSON, "content-encoding": "gzip"}, 415),
    ],
)
def test_only_json_is_posted(headers, status):
    answer = ask(Settings(), "POST", "/echo", headers, b"{}")
    assert answer.status_code == status


@pytest.mark.parametrize("size", [10, 11])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_bound(size, chunked):
    async def parts():
        yield b"x" * (size - 1)
        yield b"x"

    content = parts() if chunked else b"x" * size
    answer = ask(Settings(max_body=10), "POST", "/echo", JSON, content)
    assert answer.status_code == (200 if size == 10 else 413)
    if size == 11:
        assert refused(answer)[1] == "the body of the request is longer than 10 bytes"


def test_a_head_has_bounds():
    many = {f"x-{number}": "1" for number in range(100)}
    for headers in (many, {"x-long": "x" * 2**14}):
        assert refused(ask(Settings(), "GET", "/echo", headers))[0] == 431


@pytest.mark.parametrize("log_text", [False, True])
def test_a_failure_of_the_app_is_told_without_its_text_and_logged_with_its_trace(log_text, capsys):
    answer = ask(Settings(log_text=log_text), "POST", "/fail", {**JSON, "x-request-id": "mine"}, b"{}")
    assert (refused(answer)[0], answer.headers["x-should-retry"]) == (500, "false")
    assert not any(word in answer.text for word in ("ValueError", "somebody", "fakes"))
    trace, line = map(json.loads, capsys.readouterr().err.splitlines())
    assert (trace["id"], line["id"], line["status"]) == ("mine", "mine", 500)
    assert "in fail" in trace["trace"]
    assert "ValueError" in trace["trace"]
    assert ("what the user wrote" in trace["trace"]) == log_text


def test_each_request_is_a_line_without_key_query_or_control_characters(capsys):
    settings = Settings(api_keys="secret")
    answer = ask(settings, "POST", "/echo/%1b%7f%c2%9b?q=hidden", {"x-api-key": "secret", **JSON}, b'"text"')
    written = capsys.readouterr().err
    assert written.isascii()
    assert written.strip().isprintable()
    assert not any(word in written for word in ("secret", "hidden", "text"))
    line = json.loads(written)
    assert line.pop("time").endswith("Z")
    assert line.pop("ms") >= 0
    assert line == {
        "id": answer.headers["x-request-id"],
        "client": "192.0.2.7",
        "method": "POST",
        "path": "/echo/\x1b\x7f\x9b",
        "status": 200,
        "bytes": len(answer.content),
        "model": "nano\x1b[2J",
    }


@pytest.mark.parametrize(("given", "kept"), [("a-B_1.z", True), ("a b", False), ("x" * 129, False), ("é", False)])
def test_a_request_keeps_its_id_if_that_is_well_formed(given, kept):
    headers = {b"x-request-id": given.encode("latin-1"), b"content-type": b"application/json"}
    answer = ask(Settings(), "POST", "/echo", headers, b"{}")
    assert (answer.headers["x-request-id"] == given) == kept
    assert answer.json()["id"] == answer.headers["x-request-id"]
