"""The model that a command runs."""

from diffutron_ort.cli.loading import DEMONSTRATION
from diffutron_ort.cli.main import main
from tests.command import QUESTION


def test_a_named_model_needs_no_notice(capsys, broken):
    assert main(["generate", QUESTION, "--model", str(broken)]) == 0
    assert capsys.readouterr().err == ""


def test_the_demonstration_says_what_it_is(capsys):
    assert main(["fill", "bir <mask>"]) == 0
    assert capsys.readouterr().err == f"diffutron-ort: {DEMONSTRATION}\n"
