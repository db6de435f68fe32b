"""The routes of the server's page: what is sent, with which headers, and what is not. A browser tests what it does."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from diffutron_ort import pages
from diffutron_ort.pages import Pages, find_pages
from diffutron_ort.serve.page import FILES, MODEL, PATHS, routes

LOADED = re.compile(r"""(?: from |import\(|src=|href=)"([^"#:]+)""")
IN_BROWSER = {"/browser.js"}  # the other model, of which the server's page loads nothing


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=routes()))


def test_the_page_is_sent_as_one_that_asks_its_server(client):
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.content == (find_pages().web / "index.html").read_bytes().replace(*MODEL)
    assert answer.text.count('data-model="server"') == 1


@pytest.mark.parametrize("name", FILES)
def test_files_are_sent_as_they_are(client, name):
    answer = client.get(f"/{name}")
    assert answer.content == (find_pages().web / name).read_bytes()
    assert answer.headers["content-type"] == pages.TYPES[Path(name).suffix]


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_answer_is_guarded_and_can_be_kept(client, path):
    answer = client.get(path)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    none = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    own = {"script-src", "connect-src", "style-src", "img-src"}
    assert policy == dict.fromkeys(none, "'none'") | dict.fromkeys(own, "'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    tag = answer.headers["etag"]
    for known in (tag, f'W/{tag}, "x"', "*"):
        again = client.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]
    assert client.get(path, headers={"if-none-match": '"x"'}).content == answer.content
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(answer.content)))
    assert client.post(path).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/worker.js",
        "/host.js",
        "/package.json",
        "/test/browser.js",
        "/..%2fweb/app.js",
        "/%2e%2e/pyproject.toml",
        "/web/app.js",
        "/app.js%00",
        "/node_modules/",
        "/.gitignore",
    ],
)
def test_nothing_else_is_sent(client, path):
    assert client.get(path).status_code == 404


def test_the_page_loads_all_of_its_files_and_no_others(client):
    reached, new = set(), {"/"}
    while new:
        reached |= new
        found = {urljoin(path, name) for path in new for name in LOADED.findall(client.get(path).text)}
        new = found - reached - IN_BROWSER
    assert reached == PATHS


def test_a_link_that_leads_outside_is_not_sent(monkeypatch, tmp_path):
    web = tmp_path / "web"
    web.mkdir()
    for name in (*FILES, "index.html"):
        (web / name).write_text("x")
    (tmp_path / "secret.js").write_text("s")
    (web / "app.js").unlink()
    (web / "app.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(pages, "PAGES", (Pages(web, tmp_path),))
    assert TestClient(Starlette(routes=routes())).get("/app.js").status_code == 404


def test_an_installation_without_the_page_says_so_and_serves_the_rest(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "PAGES", (Pages(tmp_path, tmp_path),))
    client = TestClient(Starlette(routes=routes()))
    answer = client.get("/")
    assert answer.status_code == 404
    assert "Reinstall diffutron-ort" in answer.text
    assert client.get("/app.js").status_code == 404
