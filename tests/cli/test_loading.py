"""The model that a command runs."""

from diffutron_ort.cli.loading import REAL, demonstration
from diffutron_ort.cli.main import main
from tests.command import QUESTION


def test_a_named_model_needs_no_notice(capsys, broken):
    assert main(["generate", QUESTION, "--model", str(broken)]) == 0
    assert capsys.readouterr().err == ""


def test_the_demonstration_says_what_it_is(capsys):
    assert main(["fill", "bir <mask>"]) == 0
    assert capsys.readouterr().err == f"diffutron-ort: {demonstration()}\n"


def test_a_command_that_takes_the_model_as_an_argument_says_so(capsys):
    assert main(["bench", "--json"]) == 0
    assert capsys.readouterr().err.endswith(f"The real model: diffutron-ort bench {REAL}\n")
