"""The command that fills the masks of a text."""

import pytest

from diffutron_ort.cli.main import main


def test_fill(capsys):
    assert main(["fill", "bir <mask> iki"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("bir ")
    assert out.endswith(" iki\n")


def test_the_help_tells_the_defaults_of_fill(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main(["fill", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in ("one for each mask", "the whole text"):
        assert f"(default: {default})" in text
    assert "1 is none (default: 1.0)" in text
    assert "preset" not in text


@pytest.mark.parametrize("slot", ["gün=salı,çarşamba", "gün=digits:x", "gün=digit"])
def test_what_is_no_pattern_is_no_value_either(capsys, slot):
    with pytest.raises(SystemExit, match="2"):
        main(["fill", "Bugün {{gün}}", "--slot", slot])
    assert "is no pattern" in capsys.readouterr().err
