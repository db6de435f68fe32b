"""What is said where an extra is missing."""

import sys

import pytest

from diffutron_ort.errors import DiffutronError
from diffutron_ort.extras import needing


@pytest.mark.parametrize(
    ("extra", "more"), [("cli", ""), ("export", ""), ("torch", " --extra-index-url https://.*/cpu")]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(extra, more, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    match = f"^a picture needs more packages \\(.*rich.*\\): pip install 'diffutron-ort\\[{extra}\\]'{more}$"
    with pytest.raises(DiffutronError, match=match), needing(extra, "a picture"):
        import rich  # noqa: F401


def test_other_errors_pass():
    with pytest.raises(KeyError), needing("cli", "a picture"):
        raise KeyError
