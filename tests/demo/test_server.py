"""The server of the page: what it serves, to whom, and how it ends. The page itself is tested in a browser."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin

import pytest

from diffutron_ort import pages as installed
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.cli import main as cli
from diffutron_ort.demo import handler
from diffutron_ort.demo import server as demo
from diffutron_ort.demo.files import MODEL, PAGE, SCRIPTS, listed
from diffutron_ort.demo.libraries import PACKAGES
from diffutron_ort.demo.server import Server
from diffutron_ort.errors import DiffutronError
from diffutron_ort.pages import Pages, find_pages

IMPORT = re.compile(r"""^(?:import|export)[^;"]* from "([^"]+)";""", re.MULTILINE)
SECONDS = 60  # for whatever is waited for: a busy machine may stand still for a while
RUNTIME, TOKENIZERS = (f"node_modules/{package}/dist/" for package in PACKAGES)
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and links are different there")


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    """A small page beside files that are none of its own."""
    names = json.dumps({"dependencies": dict.fromkeys(PACKAGES, "1.0")})
    files = {"web/index.html": "<title>Ş</title>", "web/app.mjs": "1", "js/core.js": "2", "js/generated/o.js": "3"}
    files |= {"web/package.json": names, "web/package-lock.json": "{}", "web/test/x.js": "s", "web-secret.txt": "s"}
    files |= {
        "secret.txt": "s",
        f"web/{RUNTIME}a.wasm": "w",
        f"web/{RUNTIME}notes.txt": "s",
        f"web/{TOKENIZERS}t.mjs": "t",
    }
    files |= {f"web/node_modules/{package}/package.json": '{"version": "1.0"}' for package in PACKAGES}
    for name, text in files.items():
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_text(text, "utf-8")
    return Pages(tmp_path / "pages" / "web", tmp_path / "pages" / "js")


@contextmanager
def running(pages: Pages, model: Path | None = None) -> Iterator[Server]:
    files = listed(pages, pages.web / "node_modules", load_bundle(model))
    with Server(files, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(pages: Pages) -> Iterator[Server]:
    with running(pages) as server:
        yield server


def get(server: Server, path: str, method: str = "GET", headers: dict[str, str] | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=SECONDS)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def talk(server: Server, said: bytes) -> bytes:
    """Return what the server answers to bytes, of which it may leave some unread."""
    with connected(server) as connection:
        with suppress(ConnectionError):
            connection.sendall(said)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes a connection."""
    parts = []
    with suppress(ConnectionError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=SECONDS)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)


def asking(target: bytes, server: Server) -> bytes:
    return b"GET " + target + f" HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (PAGE, "<title>Ş</title>", "text/html; charset=utf-8"),
        (PAGE + "index.html", "<title>Ş</title>", "text/html; charset=utf-8"),
        (PAGE + "app.mjs", "1", "text/javascript; charset=utf-8"),
        (PAGE + "app%2emjs?v=1", "1", "text/javascript; charset=utf-8"),
        (PAGE + RUNTIME + "a.wasm", "w", "application/wasm"),
        (PAGE + TOKENIZERS + "t.mjs", "t", "text/javascript; charset=utf-8"),
        (SCRIPTS + "core.js", "2", "text/javascript; charset=utf-8"),
        (SCRIPTS + "generated/o.js", "3", "text/javascript; charset=utf-8"),
    ],
)
def test_the_page_is_served_with_its_types_and_isolated(server, path, body, kind):
    status, headers, content = get(server, path)
    assert (status, content.decode(), headers["Content-Type"]) == (200, body, kind)
    assert headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize("path", [PAGE, "/", "/nothing", PAGE + "../x"])
def test_every_answer_is_isolated_and_has_a_policy(server, path):
    _, headers, _ = get(server, path)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"], policy["connect-src"]) == ("'none'", "'none'", "'self'")
    assert "unsafe-inline" not in str(policy)
    assert "'unsafe-eval'" not in str(policy)


def test_what_the_bundle_lists_is_served(server):
    bundle = load_bundle()
    for name in (MANIFEST, *bundle.files):
        status, headers, content = get(server, MODEL + name)
        assert (status, content) == (200, (bundle.folder / name).read_bytes())
        assert headers["Content-Type"] == ("application/json" if name.endswith(".json") else "application/octet-stream")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/secret.txt", 404),
        ("/js/secret.txt", 404),
        ("/web-secret.txt", 404),
        (PAGE[:-1], 404),
        (SCRIPTS, 404),
        (PAGE + RUNTIME, 404),
        (PAGE + RUNTIME + "notes.txt", 404),
        (PAGE + "test/x.js", 404),
        (PAGE + "node_modules/onnxruntime-web/package.json", 404),
        (MODEL, 404),
        (MODEL + "questions.py", 404),
        ("/" + "a" * 60_000, 404),
        (PAGE + "../secret.txt", 400),
        (PAGE + "./index.html", 400),
        (PAGE + "%2e%2e/secret.txt", 400),
        (PAGE + "%2E%2e%2fsecret.txt", 400),
        (PAGE + "..%2fsecret.txt", 400),
        (PAGE + "..%5csecret.txt", 400),
        (PAGE + "..\\secret.txt", 400),
        (PAGE + "//../../secret.txt", 400),
        (MODEL + "../nano/diffutron.json", 400),
        (PAGE + "%00", 400),
        ("/%00", 400),
        ("/%0d%0aX:%20y", 400),
        ("/%ff", 400),
        ("/%", 400),
        ("/%zz", 400),
        ("/#a", 400),
        ("/ş", 400),
        ("http://elsewhere/secret.txt", 400),
        ("http://[::1", 400),
        ("http://[::1]/", 400),
        ("*", 400),
        ("x", 400),
        ("/a b", 400),
        ("/" + "a" * 70_000, 414),
    ],
)
def test_nothing_else_is_served(server, path, status, capfd):
    answer = talk(server, asking(path.encode(), server))
    assert answer.split(None, 2)[1] == str(status).encode()
    assert not answer.endswith(b"\ns")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "said",
    [
        b"\r\n\r\n",
        b"\n",
        b"\0\n\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET / HTTP/x.y\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\n\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200,
    ],
)
def test_what_is_no_request_gets_no_file_and_no_traceback(server, said, capfd):
    answer = talk(server, said)
    assert b" 200 " not in answer
    assert b" 302 " not in answer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_this_machine_may_be_called_by_its_names(server, name):
    assert get(server, PAGE, headers={"Host": f"{name}:{server.server_port}"})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "elsewhere.example:{}",
        "elsewhere.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.elsewhere.example:{}",
        "",
        "localhost.:{}",
        "localhost.elsewhere:{}",
        "0.0.0.0:{}",
        "user@127.0.0.1:{}",
        "127.0.0.1:{}@elsewhere",
        "[::1:{}",
        "127.1:{}",
        "2130706433:{}",
        "127.0.0.1:{}, elsewhere",
        "http://127.0.0.1:{}",
    ],
)
def test_no_other_host_is_answered(server, host, capfd):
    for path in (PAGE, MODEL + MANIFEST, "/", "/nothing"):
        status, _, content = get(server, path, headers={"Host": host.format(server.server_port)})
        assert status == 421, path
        assert server.address in content.decode()
    assert capfd.readouterr().err == ""


def test_a_request_without_a_host_or_with_two_is_bad(server):
    mine = f"Host: 127.0.0.1:{server.server_port}\r\n".encode()
    for hosts in (b"", mine * 2, mine + b"Host: elsewhere\r\n"):
        assert b" 400 " in talk(server, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").splitlines()[0]


def test_the_root_leads_to_the_page_and_heads_are_answered(server):
    status, headers, _ = get(server, "/")
    assert (status, headers["Location"]) == (302, PAGE)
    status, headers, content = get(server, PAGE, "HEAD")
    assert (status, headers["Content-Length"], content) == (200, "17", b"")
    assert get(server, "/", "HEAD")[0] == 302
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"):
        assert get(server, PAGE, method)[0] == 501


@unix
def test_links_that_lead_outside_and_what_is_no_file_are_not_served(pages, broken, tmp_path):
    (tmp_path / "secret.onnx").write_text("s")
    for folder, inside in (("web", "app.mjs"), ("js", "core.js"), (f"web/{RUNTIME}", "a.wasm")):
        (tmp_path / "pages" / folder / "out.js").symlink_to(tmp_path / "secret.onnx")
        (tmp_path / "pages" / folder / "in.js").symlink_to(inside)
        (tmp_path / "pages" / folder / "folder.js").mkdir()
        os.mkfifo(tmp_path / "pages" / folder / "pipe.js")
    graph = broken / "onnx" / "generate.onnx"
    sibling = broken / "onnx" / "same.onnx"
    with running(pages, broken) as server:
        for prefix in (PAGE, SCRIPTS, PAGE + RUNTIME):
            assert get(server, prefix + "in.js")[0] == 200
            for name in ("out.js", "folder.js", "pipe.js"):
                assert get(server, prefix + name)[0] == 404, name
        graph.rename(sibling)  # after the bundle was checked
        graph.symlink_to("same.onnx")
        assert get(server, MODEL + "onnx/generate.onnx")[0] == 200
        for target in (tmp_path / "secret.onnx", "/etc/passwd", "/dev/zero", "../../pages/secret.txt", "nothing", "."):
            graph.unlink()
            graph.symlink_to(target)
            assert get(server, MODEL + "onnx/generate.onnx")[0] == 404, target
        graph.unlink()
        os.mkfifo(graph)
        assert get(server, MODEL + "onnx/generate.onnx")[0] == 404
        (broken / "onnx").rename(tmp_path / "moved")
        (broken / "onnx").symlink_to(tmp_path / "moved")
        assert get(server, MODEL + "onnx/denoiser.onnx")[0] == 404


@unix
def test_a_snapshot_of_the_hub_may_link_to_its_blobs_alone(pages, broken, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for name in (MANIFEST, *load_bundle(broken).files):
        blob = blobs / hashlib.sha256(name.encode()).hexdigest()
        (broken / name).rename(blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    with running(pages, snapshot) as server:
        assert get(server, MODEL + "tokenizer.json")[0] == 200
        blob.rename(tmp_path / "outside")
        (snapshot / name).unlink()
        (snapshot / name).symlink_to(tmp_path / "outside")
        assert get(server, MODEL + name)[0] == 404


def test_contents_and_not_dates_decide_whether_a_browser_has_a_file(pages, broken):
    """Two bundles at one port, of which the second is older."""
    (broken / "generation_config.json").write_text('{"temperature": 0, "steps": 64}')
    content = (broken / "generation_config.json").read_bytes()
    manifest = json.loads((broken / MANIFEST).read_text("utf-8"))
    listed_as = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["generation_config.json"] = listed_as
    (broken / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    for path in broken.rglob("*"):
        os.utime(path, (0, 0))
    seen: list[dict[str, str]] = []
    for model in (None, broken):
        with running(pages, model) as server:
            tags = {}
            for name in (MANIFEST, "generation_config.json", "tokenizer.json"):
                path = MODEL + name
                status, headers, body = get(server, path)
                tags[name] = headers["ETag"]
                assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
                dated = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
                assert (status, get(server, path, headers=dated)[0]) == (200, 200)
                for said in (tags[name], f"W/{tags[name]}", f'"other", {tags[name]}', "*"):
                    status, headers, body = get(server, path, headers={"If-None-Match": said})
                    assert (status, headers["ETag"], body) == (304, tags[name], b"")
                if seen:
                    status, _, body = get(server, path, headers={"If-None-Match": seen[0][name]})
                    assert status == (304 if name == "tokenizer.json" else 200)
            seen.append(tags)
    assert seen[0][MANIFEST] != seen[1][MANIFEST]


def test_a_file_of_the_page_that_is_edited_is_sent_again(server, pages):
    _, headers, _ = get(server, PAGE + "app.mjs")
    (pages.web / "app.mjs").write_text("3")
    assert get(server, PAGE + "app.mjs", headers={"If-None-Match": headers["ETag"]})[::2] == (200, b"3")


def test_many_idle_connections_keep_nobody_out(server, monkeypatch):
    monkeypatch.setattr(demo, "SECONDS", 600)  # far beyond what `get` waits: none ends by itself
    monkeypatch.setattr(handler.Handler, "timeout", 600)
    idle = [connected(server) for _ in range(160)]
    assert get(server, PAGE)[0] == 200
    assert len(server._ends) <= demo.CONNECTIONS
    for connection in idle:
        connection.close()


def test_an_idle_connection_is_closed(server, monkeypatch, capfd):
    monkeypatch.setattr(demo, "SECONDS", 1)
    monkeypatch.setattr(handler.Handler, "timeout", 600)
    with connected(server) as idle:
        assert idle.recv(10) == b""
    assert capfd.readouterr().err == ""


def test_a_slow_request_is_not_waited_for(server, monkeypatch, capfd):
    monkeypatch.setattr(demo, "SECONDS", 1)
    monkeypatch.setattr(handler.Handler, "timeout", 600)  # each part is within the limit, all of them are not
    end = time.monotonic() + SECONDS
    with connected(server) as slow, pytest.raises(ConnectionError):  # noqa: PT012
        while time.monotonic() < end:
            slow.sendall(b"x")
            time.sleep(0.05)
    assert capfd.readouterr().err == ""


def test_a_browser_that_takes_no_answer_is_cut_off(server, monkeypatch, capfd):
    monkeypatch.setattr(handler.Handler, "timeout", 1)
    heard, original = threading.Event(), server.heard
    monkeypatch.setattr(server, "heard", lambda request: (original(request), heard.set()))
    with connected(server) as deaf:
        deaf.sendall(asking(f"{MODEL}onnx/denoiser.onnx.data".encode(), server))
        assert heard.wait(SECONDS)
        eventually(lambda: not server._ends)
        assert len(received(deaf)) < (load_bundle().folder / "onnx" / "denoiser.onnx.data").stat().st_size
    assert capfd.readouterr().err == ""


def test_a_body_is_not_read(server):
    for method in ("GET", "POST"):
        with connected(server) as connection:
            head = (
                f"{method} {PAGE} HTTP/1.1\r\nHost: localhost:{server.server_port}\r\nContent-Length: 1000000\r\n\r\n"
            )
            connection.sendall(head.encode())
            assert connection.recv(100).split()[1] == (b"200" if method == "GET" else b"501")


def test_a_model_that_is_not_there_or_a_taken_port_is_an_error(server, pages, monkeypatch, capsys):
    monkeypatch.setattr(installed, "PAGES", (pages,))
    assert cli.main(["demo", "nowhere", "--no-open"]) == 1
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert cli.main(["demo", "--no-open", "--port", str(server.server_port)]) == 1
    assert f"port {server.server_port} cannot be had" in capsys.readouterr().err


def test_the_page_is_part_of_what_is_installed(monkeypatch, tmp_path):
    pages = find_pages()
    assert (pages.web / "package-lock.json").is_file()
    assert (pages.scripts / "web.js").is_file()
    monkeypatch.setattr(installed, "PAGES", (Pages(tmp_path, tmp_path),))
    with pytest.raises(DiffutronError, match="reinstall"):
        demo.serve()


def test_everything_that_the_page_imports_is_served(tmp_path):
    for package in PACKAGES:
        (tmp_path / package / "dist").mkdir(parents=True)
    served = listed(find_pages(), tmp_path, load_bundle())
    reached, new = set(), {PAGE + "app.js", PAGE + "worker.js"}
    while new:
        reached |= new
        texts = {address: served[address].path.read_text("utf-8") for address in new}
        found = {urljoin(address, name) for address in new for name in IMPORT.findall(texts[address])}
        new = found - reached
    assert {SCRIPTS + "diffutron.js", SCRIPTS + "generated/options.js", PAGE + "host.js"} <= reached


def test_the_page_is_told_the_variant_that_is_there(pages, broken, monkeypatch):
    monkeypatch.setattr(installed, "PAGES", (pages,))
    with demo.serve(broken) as server:
        assert server.address.endswith(PAGE)
    for name in load_bundle(broken).variants["fp32"].files:
        (broken / name).unlink()
    with demo.serve(broken) as server:
        assert server.address.endswith(PAGE + "?variant=int8")


STARTED = """
import pathlib, sys, webbrowser
from urllib.request import urlopen
from diffutron_ort.cli import main as cli
from diffutron_ort import pages
pages.PAGES = (pages.Pages(pathlib.Path({web!r}), pathlib.Path({scripts!r})),)
def browse(address):
    print('opened', address, urlopen(address, timeout=60).status, file=sys.stderr, flush=True)
webbrowser.open = browse
sys.exit(cli.main(['demo', '--port', '0']))
"""


@unix
def test_the_command_answers_a_browser_that_waits_and_an_interrupt_ends_it_with_130(pages):
    command = [sys.executable, "-c", STARTED.format(web=str(pages.web), scripts=str(pages.scripts))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        address = process.stderr.readline().split()[1].decode()
        assert process.stderr.readline().decode() == f"opened {address} 200\n"
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=SECONDS)
        connection.request("GET", PAGE)
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (130, b"", b"")
