"""Where the page's libraries come from, and that a folder which npm filled by half is never used."""

import hashlib
import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffutron_ort import pages
from diffutron_ort import user_cache as cache
from diffutron_ort.cli import main as cli
from diffutron_ort.demo.libraries import PACKAGES, find_libraries
from diffutron_ort.errors import DiffutronError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="npm is a script of a shell here")

NPM = """#!/bin/sh
echo "$PWD $*" >>"{log}"
[ -f package.json ] && [ -f package-lock.json ] || exit 3
for package in {packages}; do
    mkdir -p node_modules/$package/dist && echo 1 >node_modules/$package/dist/a.mjs
done
{end}
"""


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's folder without libraries, which cannot be written to, and an empty cache."""
    (tmp_path / "pages" / "web").mkdir(parents=True)
    (tmp_path / "pages" / "js").mkdir()
    web = tmp_path / "pages" / "web"
    (web / "index.html").write_text("page")
    (web / "package.json").write_text(json.dumps({"dependencies": dict.fromkeys(PACKAGES, "1.0")}))
    (web / "package-lock.json").write_text("{}")
    web.chmod(0o500)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return web


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for npm, made with how it ends; returns the calls of it so far."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def make(end: str = "exit 0", packages: str = " ".join(PACKAGES)):
        script = tmp_path / "bin" / "npm"
        script.write_text(NPM.format(log=tmp_path / "log", packages=packages, end=end))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return lambda: (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []

    return make


def put(modules: Path, release: str) -> Path:
    for name in PACKAGES:
        (modules / name / "dist").mkdir(parents=True)
        (modules / name / "package.json").write_text(json.dumps({"version": release}))
    return modules


def test_they_are_fetched_once_without_code_and_said(web, npm):
    calls, said = npm(), []
    modules = find_libraries(web, say=said.append)
    key = hashlib.sha256(b"{}").hexdigest()[:16]
    assert modules == cache.folder() / "libraries" / key / "node_modules"
    assert all((modules / name / "dist" / "a.mjs").is_file() for name in PACKAGES)
    assert find_libraries(web, say=said.append) == modules
    [call], [line] = calls(), said
    assert " ci --ignore-scripts --omit=dev " in call
    assert "onnxruntime-web 1.0" in line
    assert str(cache.folder()) in line
    assert {path.name for path in web.iterdir()} == {"index.html", "package.json", "package-lock.json"}


def test_another_lock_file_fetches_again_and_rm_removes_both(web, npm, capsys):
    calls = npm()
    first = find_libraries(web)
    web.chmod(0o700)
    (web / "package-lock.json").write_text('{"changed": 1}')
    assert find_libraries(web) != first
    assert len(calls()) == 2
    assert cli.main(["rm", "--yes"]) == 0
    assert cache.contents() == []


@pytest.mark.parametrize(
    ("end", "packages"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; echo 'npm error network is down' >&2; exit 1", " ".join(PACKAGES)),
        ("exit 0", PACKAGES[0]),
        ("kill -9 $$", PACKAGES[1]),
    ],
)
def test_what_was_filled_by_half_is_not_used(web, npm, end, packages, monkeypatch, capsys):
    npm(end, packages)
    monkeypatch.setattr(pages, "PAGES", (pages.Pages(web, web.parent / "js"),))
    assert cli.main(["demo", "--no-open"]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert "npm could not fetch the page's libraries" in line
    assert "--libraries DIR" in line
    assert ("network is down" in line) == ("ENOTFOUND" in end)
    assert [path.name for path in (cache.folder() / "libraries").iterdir()] == [cache.MARKER]
    calls = npm()
    find_libraries(web)
    assert len(calls()) == 2


def test_what_is_left_of_some_that_were_removed_by_half_is_not_used(web, npm, monkeypatch):
    """An interrupt ends the removal of either package, of a folder in it, or of all."""
    calls = npm()
    kept = find_libraries(web)
    for package in PACKAGES:
        shutil.rmtree(kept / package / "dist")
        assert find_libraries(web) == kept
        assert (kept / package / "dist" / "a.mjs").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.empty()
    assert not kept.exists()
    find_libraries(web)
    assert len(calls()) == 4
    cache.empty()
    assert not cache.contents()


def interrupt(path):
    raise KeyboardInterrupt


TOLD = """
import subprocess, sys
from pathlib import Path
from diffutron_ort.demo.libraries import find_libraries

class Popen(subprocess.Popen):
    def communicate(self, *arguments, **options):
        print("npm has been started", flush=True)
        return super().communicate(*arguments, **options)

subprocess.Popen = Popen
find_libraries(Path(sys.argv[1]))
"""


def test_being_told_to_end_leaves_nothing(web, npm, tmp_path):
    calls = npm(f'echo "all but done" >>"{tmp_path / "log"}"; exec sleep 600')
    with subprocess.Popen([sys.executable, "-c", TOLD, web], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"npm has been started\n"
        while len(calls()) < 2:
            time.sleep(0.02)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert [path.name for path in (cache.folder() / "libraries").iterdir()] == [cache.MARKER]


def test_a_missing_npm_is_one_line_that_says_what_to_do(web, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(pages, "PAGES", (pages.Pages(web, web.parent / "js"),))
    assert cli.main(["demo", "--no-open"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "install Node.js, or give a node_modules that has them with --libraries DIR" in line
    assert not cache.folder().exists()


def test_whoever_is_quicker_wins(web, npm):
    kept = cache.folder() / "libraries" / hashlib.sha256(b"{}").hexdigest()[:16]
    npm(f'mkdir -p "{kept}" && cp -r node_modules "{kept}/" && touch "{kept}/theirs"')
    assert find_libraries(web) == kept / "node_modules"
    assert (kept / "theirs").exists()
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, cache.MARKER}


def test_those_of_a_checkout_are_used_where_they_match(web, npm):
    calls = npm()
    web.chmod(0o700)
    put(web / "node_modules", "1.0")
    assert find_libraries(web) == web / "node_modules"
    for broken in ('{"version": "0.9"}', "{", "[]", "{}"):
        (web / "node_modules" / PACKAGES[0] / "package.json").write_text(broken)
        assert find_libraries(web) != web / "node_modules"
    assert len(calls()) == 1


def test_one_may_say_where_they_are(web, npm, tmp_path):
    calls = npm()
    said = put(tmp_path / "mine", "0.1")
    assert find_libraries(web, said) == said
    (said / PACKAGES[1] / "dist").rmdir()
    with pytest.raises(DiffutronError, match="mine has no @huggingface/tokenizers"):
        find_libraries(web, said)
    with pytest.raises(DiffutronError, match="nowhere has no onnxruntime-web and no @huggingface/tokenizers"):
        find_libraries(web, tmp_path / "nowhere")
    assert calls() == []
