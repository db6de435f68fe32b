"""The server of the page: what it serves, what it does not, and how it ends. The page itself is tested in a browser."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffutron_ort import cli, demo
from diffutron_ort.bundle import load_bundle
from diffutron_ort.demo import MODEL, PAGE, SCRIPTS, Server
from diffutron_ort.errors import DiffutronError
from diffutron_ort.manifest import MANIFEST


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A small page beside a file that is none of its own."""
    files = {"web/index.html": "<title>Ş</title>", "web/app.mjs": "1", f"web/{demo.RUNTIME}/dist/a.wasm": "w"}
    for name, text in (files | {"js/core.js": "2", "secret.txt": "s", "web-secret.txt": "s"}).items():
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_text(text, "utf-8")
    return tmp_path / "pages"


@pytest.fixture
def server(pages: Path) -> Iterator[Server]:
    with Server(pages, load_bundle(), 0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, path: str, method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (PAGE, "<title>Ş</title>", "text/html; charset=utf-8"),
        (PAGE + "app.mjs", "1", "text/javascript; charset=utf-8"),
        (PAGE + "app.mjs?v=1", "1", "text/javascript; charset=utf-8"),
        (PAGE + demo.RUNTIME + "/dist/a.wasm", "w", "application/wasm"),
        (SCRIPTS + "core.js", "2", "text/javascript; charset=utf-8"),
    ],
)
def test_the_page_is_served_with_its_types_and_isolated(server, path, body, kind):
    status, headers, content = get(server, path)
    assert (status, content.decode(), headers["Content-type"]) == (200, body, kind)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_what_the_bundle_lists_is_served(server):
    bundle = load_bundle()
    for name in (MANIFEST, *bundle.files):
        status, headers, content = get(server, MODEL + name)
        assert (status, content) == (200, (bundle.folder / name).read_bytes())
        assert headers["Content-type"] == ("application/json" if name.endswith(".json") else "application/octet-stream")


def test_any_bundle_is_where_the_page_looks_for_it(pages, broken):
    (broken / MANIFEST).write_text(json.dumps(json.loads((broken / MANIFEST).read_text("utf-8")) | {"more": 1}))
    with Server(pages, load_bundle(broken), 0) as server:
        assert server.files[MODEL + MANIFEST] == broken / MANIFEST


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/examples/secret.txt",
        PAGE + "../secret.txt",
        PAGE + "%2e%2e/secret.txt",
        PAGE + "..%2fsecret.txt",
        PAGE + "..%5csecret.txt",
        PAGE + "//../../secret.txt",
        "/examples/web-secret.txt",
        PAGE[:-1],
        SCRIPTS,
        PAGE + demo.RUNTIME + "/",
        PAGE + "%00",
        "/%00",
        MODEL,
        MODEL + "questions.py",
        MODEL + "../nano/diffutron.json",
        "http://elsewhere/secret.txt",
        "*",
    ],
)
def test_nothing_else_is_served(server, path, capfd):
    status, _, content = get(server, path)
    assert status == 404
    assert content != b"s"
    assert capfd.readouterr().err == ""


def test_the_root_leads_to_the_page_and_heads_are_answered(server):
    status, headers, _ = get(server, "/")
    assert (status, headers["Location"]) == (302, PAGE)
    assert get(server, PAGE, "HEAD")[::2] == (200, b"")
    assert get(server, "/", "HEAD")[0] == 302
    assert get(server, PAGE, "POST")[0] == 501


def test_a_model_that_is_not_there_or_a_taken_port_is_an_error(server, pages, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PAGES", (pages,))
    assert cli.main(["demo", "nowhere", "--no-open"]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err
    for port in (server.server_port, 70000):
        assert cli.main(["demo", "--no-open", "--port", str(port)]) == 1
        assert f"port {port} cannot be had" in capsys.readouterr().err


def test_a_missing_library_is_one_line_that_says_how_to_get_it(pages, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PAGES", (pages / "none", pages))
    (pages / "web" / demo.RUNTIME).rename(pages / "elsewhere")
    assert cli.main(["demo", "--no-open"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"npm install --ignore-scripts --omit=dev --prefix {pages / 'web'}")
    monkeypatch.setattr(demo, "PAGES", (pages / "none",))
    with pytest.raises(DiffutronError, match="reinstall"):
        demo.serve()


def test_the_page_is_part_of_what_is_installed():
    [folder, *_] = [pages for pages in demo.PAGES if (pages / "web" / "index.html").is_file()]
    assert (folder / "web" / "package-lock.json").is_file()
    assert (folder / "js" / "diffutron.js").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_the_command_opens_the_page_and_an_interrupt_ends_it_with_130(pages):
    code = (
        "import sys, pathlib, webbrowser; from diffutron_ort import cli, demo\n"
        f"demo.PAGES = (pathlib.Path({str(pages)!r}),)\n"
        "webbrowser.open = lambda address: print('opened', address, file=sys.stderr, flush=True)\n"
        "sys.exit(cli.main(['demo', '--port', '0']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        address = process.stderr.readline().split()[1].decode()
        assert process.stderr.readline().decode() == f"opened {address}\n"
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=10)
        connection.request("GET", PAGE)
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
