"""The journal of an unfinished output, wherever writing it has stopped."""

import pytest

from diffutron_ort.bulk.journal import Checkpoint, Journal

IDENTITY = {"steps": 2}


@pytest.fixture
def path(tmp_path):
    """A journal with two checkpoints."""
    path = tmp_path / "out.journal"
    journal = Journal(path)
    journal.begin(IDENTITY)
    journal.note(Checkpoint(10, 1, 100))
    journal.note(Checkpoint(20, 2, 200))
    journal.close()
    return path


@pytest.mark.parametrize("half", [b"", b"[", b"[30, 2, 30", b"[30, 2, 300]"])
def test_a_line_that_was_half_written_is_ignored(path, half):
    path.write_bytes(path.read_bytes() + half)
    journal = Journal(path)
    assert (journal.identity, journal.last) == (IDENTITY, (20, 2, 200))
    journal.note(Checkpoint(30, 2, 300))
    journal.close()
    again = Journal(path)
    assert again.last == (30, 2, 300)
    again.close()


def test_one_whose_first_line_was_half_written_is_of_no_run(path):
    path.write_bytes(path.read_bytes()[:5])
    journal = Journal(path)
    assert (journal.identity, journal.last) == (None, (0, 0, 0))
    journal.close()
    assert not path.exists()


def test_beginning_anew_forgets_the_old_run(path):
    journal = Journal(path)
    journal.begin({"steps": 3})
    journal.note(Checkpoint(1, 0, 10))
    journal.close()
    again = Journal(path)
    assert (again.identity, again.last) == ({"steps": 3}, (1, 0, 10))
    again.remove()
    assert not path.exists()
