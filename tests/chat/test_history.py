"""What was typed is there the next time, for its user alone."""

import json
import os
import sys

import pytest

from diffutron_ort import user_cache
from diffutron_ort.chat.history import KEPT, MOST_ENTRY, History


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUTRON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def said():
    return []


def test_entries_come_back_in_order(cache, said):
    entries = ["bir", "iki\nüç", "/system \x1b[31m\u2028", "a\udcff"]
    assert History(said.append).entries() == []
    for entry in entries:
        History(said.append).add(entry)
    assert History(said.append).entries() == entries
    assert said == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are different there")
def test_only_the_user_can_read_them(cache, said):
    old = os.umask(0)
    try:
        History(said.append).add("bir")
    finally:
        os.umask(old)
    [path] = cache.rglob("*.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_file_stays_small(cache, said):
    history = History(said.append)
    for number in range(2 * KEPT + 1):
        history.add(str(number))
    history.add("x" * (MOST_ENTRY + 1))
    expected = [str(number) for number in range(KEPT + 1, 2 * KEPT + 1)]
    assert history.entries() == expected
    [path] = cache.rglob("*.jsonl")
    assert len(path.read_bytes().splitlines()) == KEPT
    assert History(said.append).entries() == expected


def test_what_is_no_entry_is_left_out(cache, said):
    History(said.append).add("bir")
    [path] = cache.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"a": 1}\n\xff\n[\nnull\n"half')
    assert History(said.append).entries() == ["bir"]


def test_nothing_is_kept_unless_it_is_wanted(cache, said):
    history = History(said.append, kept=False)
    history.add("bir")
    assert history.entries() == []
    assert not cache.exists()


@pytest.mark.parametrize("what", ["no folder", "foreign", "not a file"])
def test_what_cannot_be_kept_is_said_once(cache, said, what):
    if what == "no folder":
        cache.write_text("", "utf-8")
    else:
        (cache / "chat").mkdir(parents=True)
        (cache / "chat" / "history.jsonl").mkdir()
    if what == "not a file":
        (cache / "chat" / user_cache.MARKER).write_text("", "utf-8")
    history = History(said.append)
    assert history.entries() == []
    history.add("bir")
    history.add("iki")
    [line] = said
    assert line.startswith("what is typed is not kept for the next time: ")


def test_lines_are_json(cache, said):
    History(said.append).add("ağ")
    [path] = cache.rglob("*.jsonl")
    assert json.loads(path.read_bytes()) == "ağ"
