"""The command that fills the masks of a text."""

from diffutron_ort.cli.main import main


def test_fill(capsys):
    assert main(["fill", "bir <mask> iki"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("bir ")
    assert out.endswith(" iki\n")
