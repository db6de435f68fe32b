"""Files that are written whole or not at all."""

import os
import stat
import sys

import pytest

from diffutron_ort.cli.writing import check_writable, write_text

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and links are different there")


def test_a_check_changes_nothing(tmp_path):
    there = tmp_path / "there"
    there.write_text("old")
    before = there.stat()
    for path in (there, tmp_path / "new"):
        check_writable(path)
    assert list(tmp_path.iterdir()) == [there]
    assert there.stat().st_mtime_ns == before.st_mtime_ns


def test_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "new", "ğ")
    assert (tmp_path / "new").read_bytes() == "ğ".encode()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@POSIX
def test_what_is_there_keeps_its_mode_and_its_links(tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_text("old")
    there.chmod(0o640)
    link.symlink_to(there)
    write_text(link, "new")
    assert link.is_symlink()
    assert there.read_text() == "new"
    assert stat.S_IMODE(there.stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(there, "new\ud800")
    assert there.read_text() == "old"
    assert list(tmp_path.iterdir()) == [there]


@POSIX
def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    os.close(reader)


@pytest.mark.parametrize("name", ["no/file", "."])
def test_an_error_names_what_was_asked_for(name, tmp_path):
    for write in (check_writable, lambda path: write_text(path, "")):
        with pytest.raises(OSError) as caught:
            write(f"{tmp_path}/{name}")
        assert caught.value.filename == f"{tmp_path}/{name}"
