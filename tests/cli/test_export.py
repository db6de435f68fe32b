"""The command that converts a checkpoint, as far as it is the command line's."""

import sys

from diffutron_ort.cli.main import main


def test_export_without_its_packages_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffutron_ort_export.command", None)
    assert main(["export", "a", "b"]) == 1
    assert "pip install 'diffutron-ort[export]'" in capsys.readouterr().err
