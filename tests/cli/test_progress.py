"""Progress: lines or a bar, and the time left."""

import sys
from types import SimpleNamespace

import pytest

from diffutron_ort.cli import progress as module
from diffutron_ort.cli.loading import shown_if_slow
from diffutron_ort.cli.progress import TimeLeft, lines, progress


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, as a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_the_time_left_is_in_proportion_to_what_is_done(clock):
    left = TimeLeft()
    left.note(0.0)
    assert str(left) == ""
    clock[0] += 30
    left.note(0.5)
    assert str(left) == "30 s left"
    clock[0] += 10
    assert str(left) == "20 s left"  # it goes on between two notes
    left.note(0.1)
    assert str(left) == ""  # something new has begun
    clock[0] += 30
    left.note(0.1)
    assert str(left) == "4 min left"


def test_a_stage_gets_a_line_and_another_from_time_to_time(clock, capsys):
    report = lines()
    for done in (0.0, 0.1, 0.2, 0.3, 0.4, 1.0):
        report("downloading", done)
        clock[0] += 4
    report("writing", 0.0)
    assert capsys.readouterr() == ("", "downloading\ndownloading (28 s left)\nwriting\n")


def test_a_terminal_without_rich_gets_lines(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with progress() as report:
        report("downloading", 0.0)
    assert capsys.readouterr() == ("", "downloading\n")


def test_what_libraries_print_while_something_is_shown_is_no_result(capsys):
    with shown_if_slow() as report:
        print("before")
        report("exporting", 0.0)
        print("a library's")
    print("after")
    assert capsys.readouterr() == ("before\nafter\n", "exporting\na library's\n")
