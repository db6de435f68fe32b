"""The user's cache: where it is, that writes are atomic, and that only our own folders are ever removed."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from diffutron_ort import user_cache
from diffutron_ort.cli import main as cli
from diffutron_ort.errors import DiffutronError, OptionError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/diffutron-ort"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, ".cache/diffutron-ort"),
        ("linux", {"XDG_CACHE_HOME": ""}, ".cache/diffutron-ort"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/diffutron-ort"),
        ("darwin", {"XDG_CACHE_HOME": "/elsewhere"}, "Library/Caches/diffutron-ort"),
        ("win32", {}, "AppData/Local/diffutron-ort"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/diffutron-ort"),
        ("linux", {user_cache.VARIABLE: ""}, ".cache/diffutron-ort"),
        ("win32", {user_cache.VARIABLE: "~/kept"}, "kept"),
    ],
)
def test_the_folder_follows_the_platform_or_the_variable(platform, variables, expected, tmp_path, monkeypatch):
    for name in (user_cache.VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert user_cache.folder() == tmp_path / expected
    assert list(tmp_path.iterdir()) == []  # asking for the folder does not make it


def test_a_relative_folder_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_cache.VARIABLE, "kept")
    assert user_cache.folder() == tmp_path / "kept"


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch):
    for name in (user_cache.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # as for a user without an entry in the password database
    with pytest.raises(DiffutronError, match="set HOME, or DIFFUTRON_CACHE"):
        user_cache.folder()


@pytest.mark.parametrize("place", ["/", "~", "~/..", "~/../linked-home"])
def test_the_home_folder_and_its_parents_are_refused(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "linked-home").symlink_to(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(user_cache.VARIABLE, place)
    with pytest.raises(OptionError, match="a folder of its own"):
        user_cache.folder()
    assert cli.main(["rm", "--yes"]) == 2
    assert "a folder of its own" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="modes are different there")
def test_a_file_is_private_and_replaced_atomically(root):
    path = root / "verified" / "a" / "b.json"
    user_cache.write(path, b"one")
    user_cache.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]
    for place in (root.parent, root, root / "verified", path.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_no_temporary_file(root):
    (user_cache.make_folder(root / "verified") / "a" / "in the way").mkdir(parents=True)
    with pytest.raises(DiffutronError, match=r"a cannot be written: .*; set DIFFUTRON_CACHE"):
        user_cache.write(root / "verified" / "a", b"")
    assert {path.name for path in (root / "verified").iterdir()} == {"a", user_cache.MARKER}


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(DiffutronError, match="cannot be written"):
        user_cache.write(user_cache.folder() / "verified" / "a", b"")
    assert user_cache.contents() == []


def test_threads_may_write_at_once(root):
    failures = []

    def work(i: int) -> None:
        try:
            user_cache.write(root / "verified" / str(i % 3), b"x" * 1000)
        except DiffutronError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {path.name for path in (root / "verified").iterdir()} == {"0", "1", "2", user_cache.MARKER}


def test_folders_of_other_programs_are_neither_written_nor_removed(root, capsys):
    (root / "verified").mkdir(parents=True)
    (root / "verified" / "theirs").write_text("1")
    (root / "notes.txt").write_text("2")
    with pytest.raises(DiffutronError, match="was not made by diffutron-ort"):
        user_cache.write(root / "verified" / "a", b"")
    user_cache.write(root / "libraries" / "a", b"12345")
    assert cli.main(["rm", "--yes"]) == 0
    assert sorted(path.name for path in root.rglob("*")) == ["notes.txt", "theirs", "verified"]
    assert str(root / "libraries") in capsys.readouterr().out


def test_links_are_removed_and_not_followed(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("k" * 5000)
    (outside / user_cache.MARKER).touch()
    user_cache.write(root / "libraries" / "deep" / "a", b"1")
    for place in (root / "libraries" / "link", root / "libraries" / "deep" / "link", root / "linked"):
        place.symlink_to(outside)
    [(path, size)] = user_cache.contents()
    assert path == root / "libraries"
    assert size < 5000
    user_cache.empty()
    assert (outside / "kept").exists()
    assert [path.name for path in root.iterdir()] == ["linked"]
    with pytest.raises(DiffutronError, match="was not made by"):
        user_cache.write(root / "linked" / "a", b"")


def test_a_partly_removed_folder_is_still_recognized(root, monkeypatch):
    user_cache.write(root / "libraries" / "a", b"1")
    user_cache.write(root / "libraries" / "deep" / "b", b"1")

    def fail(path: Path) -> None:
        raise PermissionError("no")

    with monkeypatch.context() as patch:
        patch.setattr(user_cache.shutil, "rmtree", fail)
        with pytest.raises(DiffutronError, match="cannot be removed: no"):
            user_cache.empty()
    assert [path for path, _ in user_cache.contents()] == [root / "libraries"]


def test_the_command_lists_the_folders_and_asks_first(root):
    def run(*flags: str, **how):
        command = [sys.executable, "-m", "diffutron_ort.cli.main", "rm", *flags]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **how)

    assert run().returncode == 0
    assert run().stderr == f"diffutron-ort: nothing is kept in {root}\n"
    user_cache.write(root / "libraries" / "a", b"x" * 2000)
    refused = run(input="y\n")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert (root / "libraries" / "a").exists()
    size = 2000 + (root / "libraries" / user_cache.MARKER).stat().st_size
    assert refused.stdout.split() == [f"{size:,}", "bytes", str(root / "libraries")]
    assert run("--yes").returncode == 0
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(("said", "is_left"), [("y\n", False), ("yes\n", False), ("n\n", True), ("", True)])
def test_on_a_terminal_only_yes_removes_them(said, is_left, root, monkeypatch):
    class Terminal:
        closed = False

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return said

    user_cache.write(root / "libraries" / "a", b"1")
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert cli.main(["rm"]) == 0
    assert (root / "libraries").exists() == is_left
