"""What a wrong command line gets."""

import shlex
import sys

import pytest

from diffutron_ort import __version__
from diffutron_ort.cli.main import COMMANDS, main
from diffutron_ort.cli.terminal import MOST_MESSAGE
from tests.command import QUESTION, run


def refused(line, capsys):
    """Return the one line that a wrong command line is answered with."""
    arguments = shlex.split(line) if isinstance(line, str) else line
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    [message] = captured.err.splitlines()
    command = f" {arguments[0]}" if arguments and arguments[0] in COMMANDS else ""
    assert message.startswith("diffutron-ort: ")
    assert message.endswith(f"; see diffutron-ort{command} --help")
    return message


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("generate x --tempreature 1", "--temperature"),
        ("generate x --max-tokens 4", "--max-new-tokens"),
        ("generate x --max_new_tokens=4", "--max-new-tokens"),
        ("generate --seeds 4 x", "--seed"),
        ("generate x --Seed 4", "--seed"),
        ("generate x –seed 4", "--seed"),
        ("generate x -seed 4", "--seed"),
        ("generate —steps 3 x", "--steps"),
        ("generate x --temp 1", "--temperature"),
        ("generate x --no-early", "--no-early-end"),
        ("generate x --stpo='a b'", "--stop"),
        ("generate x --preset fst", "fast"),
        ("generate x --remasking rndom", "random"),
        ("generate x --provider cdua", "cuda"),
        ("fill '<mask>' --step 3", "--steps"),
        ("bench --jsn", "--json"),
        ("verify --revison main", "--revision"),
        ("demo --prot 3", "--port"),
        ("rm --ye", "--yes"),
        ("export a b --varient int8", "--variant"),
        ("genrate x", "generate"),
        ("Generate x", "generate"),
        ("gen x", "generate"),
    ],
)
def test_what_was_meant_is_said(line, meant, capsys):
    assert f"(did you mean {meant}?)" in refused(line, capsys)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", "give a command: generate, chat, fill"),
        ("--model x generate y", "there is no flag --model before the command"),
        ("'On iki artı beş kaç eder?'", "diffutron-ort generate 'On iki artı beş kaç eder?'"),
        ("generate On iki artı beş", "quote the prompt, if it has several words: 'On iki artı beş'"),
        ("generate On iki --seed 3 artı", "'On iki artı'"),
        ("fill bir '<mask>' iki", "quote the text, if it has several words: 'bir <mask> iki'"),
        ("generate -x", "a text that begins with - goes after --"),
        ("generate x --stop", "--stop: expected one argument (a value that begins with - goes after =)"),
        ("generate x --stop ''", "stop=['']: must hold strings"),
        ("generate x --steps x", "--steps: 'x' is not an integer"),
        ("generate x --temperature x", "--temperature: 'x' is not a number"),
        ("generate x --threads 1.5", "--threads: '1.5' is not an integer"),
        ("generate x --suppress-tokens 5 y", "--suppress-tokens: 'y' is not an integer"),
        ("generate x --seed -1", "seed=-1: must be an integer from 0"),
        ("generate x --threads 0", "threads=0: must be an integer from 1"),
        ("generate x --variant int3", "variant='int3'"),
        ("generate x --provider x", "--provider: 'x' is not one of cuda, cpu"),
        ("generate x --model ''", "--model: must not be empty"),
        ("generate x --svg=", "--svg: must not be empty"),
        ("bench a b", "b is one argument too many"),
        ("bench ''", "model: must not be empty"),
        ("verify --against jax x", "--against jax: must be torch"),
        ("generate x --suppress-tokens 999999", "suppress_tokens holds 999999"),
        ("generate x --revision main", "only a hub id has revisions"),
        ("generate —Merhaba nasılsın", "quote the prompt, if it has several words: '—Merhaba nasılsın'"),
        ("bench --model x", "there is no flag --model; give the model without a flag"),
        ("verify --model=x", "there is no flag --model; give the model without a flag"),
        ("generate --prompt x", "there is no flag --prompt; give the prompt without a flag"),
        ("rm --model x", "there is no flag --model; give the model without a flag"),
        ("rm --variant int8", "--variant is of a model: give that as well"),
        ("verify --adapter x", "--adapter describes the SOURCE of --against"),
        ("verify --source-revision x", "--source-revision describes the SOURCE of --against"),
        ("demo --port 65536", "'65536' is not a port: ports are 0 to 65535"),
        ("demo --port=-1", "'-1' is not a port"),
        ("demo --port 1_0", "'1_0' is not a port"),
        ("rm x y", "y is one argument too many"),
        ("list x", "x is one argument too many"),
        ("info x --variant ''", "--variant: must not be empty"),
        ("export", "SOURCE and OUT missing"),
    ],
)
def test_what_is_wrong_is_said(line, found, capsys):
    assert found in refused(line, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_is_abbreviated(command, capsys):
    assert "there is no flag --hel (did you mean --help?)" in refused(f"{command} --hel", capsys)


@pytest.mark.parametrize("digits", [4000, 5000])
def test_a_value_of_thousands_of_digits_makes_a_short_message(digits, capsys):
    assert len(refused(["generate", "x", "--seed", "9" * digits], capsys)) < MOST_MESSAGE + 100


def test_options_are_refused_before_a_text_is_read_and_a_model_loaded(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert "steps=0" in refused("generate --steps 0 --model nowhere", capsys)


@pytest.mark.parametrize("arguments", [["--", "-5 + 3 kaç eder?"], ["--steps", "1", "--", "--x"], ["-5 + 3 kaç eder?"]])
def test_a_prompt_may_begin_with_a_dash(arguments, capsys):
    assert main(["generate", *arguments]) == 0


def test_a_value_may_begin_with_a_dash(capsys):
    assert main(["generate", QUESTION, "--stop=-x", "--stop=--"]) == 0
    assert capsys.readouterr().out == "on yedi\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: diffutron-ort {command}".rstrip())
    assert err == ""
    assert command not in ("generate", "fill") or "after -- if it begins with a dash" in " ".join(out.split())


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_the_command_has_one_name():
    done = run("generate", "x", "--stepz")
    assert done.returncode == 2
    assert done.stderr.startswith(b"diffutron-ort: ")
    assert run("--help").stdout.startswith(b"usage: diffutron-ort ")


def test_wrong_usage_of_export_is_found_before_torch_is_imported():
    code = (
        "import sys; from diffutron_ort.cli.main import main\n"
        "try:\n    sys.exit(main(sys.argv[1:]))\n"
        "finally:\n    print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    for line in ("", "a", "a b --varient int8", "a b --context-length x", "a b c --accept", "--help"):
        done = run("-c", code, "export", *line.split(), command=[sys.executable])
        assert done.stdout.splitlines()[-1] == b"[]", line
        assert done.returncode == (0 if line == "--help" else 2), line
