"""The command's streams: closed, full, without a reader, on a terminal; and what a program finds of them afterwards."""

import io
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from diffutron_ort.cli import main as cli
from tests.command import QUESTION, on_terminal, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="closes streams by a shell, and opens terminals")

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
STATES = ("open", "closed", "full", "unread")
EVERY = [pytest.param(*pair, marks=FULL if "full" in pair else ()) for pair in product(STATES, STATES)]
SOME = [pair for pair in EVERY if "open" in pair.values or len(set(pair.values)) == 1]


def run_with(output, errors, *arguments, stdin="empty"):
    """Run the command with its streams in these states; what is on a stream that is not open is b"".

    The state of standard input can be a path: that file.
    """
    names, states = ("stdin", "stdout", "stderr"), (stdin, output, errors)
    files = [_opened(state) for state in states]

    def close():
        for number, state in enumerate(states):
            if state == "closed":
                os.close(number)

    try:
        done = run(*arguments, preexec_fn=close, **dict(zip(names, files, strict=True)))
    finally:
        for file in files:
            if file >= 0:
                os.close(file)
    done.stdout, done.stderr = done.stdout or b"", done.stderr or b""
    return done


def _opened(state):
    """Return a descriptor in this state, or what stands for a pipe."""
    if state == "open":
        return subprocess.PIPE
    if state == "unread":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    if state == "full":
        return os.open("/dev/full", os.O_WRONLY)
    return os.open(state if isinstance(state, Path) else os.devnull, os.O_RDONLY)


def assert_silent(done):
    """No traceback, and nothing that Python says of itself at its end."""
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr


@pytest.mark.parametrize(
    ("output", "errors"), [pair for pair in EVERY if "open" in pair.values or pair.values[0] == pair.values[1]]
)
def test_what_is_asked_for_is_on_standard_output_and_nothing_else_ever(output, errors):
    done = run_with(output, errors, "generate", QUESTION)
    assert done.returncode == (1 if output in ("full", "unread") else 0)
    assert done.stdout.decode() == ("on yedi\n" if output == "open" else "")
    assert_silent(done)
    if errors == "open":
        lines = done.stderr.decode().splitlines()
        assert "embedded demonstration" in lines[0]
        assert [line.split(":")[1] for line in lines[1:]] == ([" standard output"] if output == "full" else [])


@pytest.mark.parametrize(("output", "errors"), EVERY)
def test_wrong_usage_is_exit_code_2_however_the_streams_are(output, errors):
    done = run_with(output, errors, "generate", "x", "--stepz", "3")
    assert (done.returncode, done.stdout) == (2, b"")
    assert_silent(done)
    assert (b"--steps" in done.stderr) is (errors == "open")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"], ["fill", "bir <mask> iki"]])
@pytest.mark.parametrize("output", ["closed", pytest.param("full", marks=FULL), "unread"])
def test_help_and_other_texts_fail_as_answers_do(arguments, output):
    done = run_with(output, "open", *arguments)
    assert done.returncode == (output != "closed")
    assert_silent(done)


@pytest.mark.parametrize("errors", ["closed", pytest.param("full", marks=FULL), "unread"])
def test_steps_that_cannot_be_shown_cost_no_answer(errors):
    done = run_with("open", errors, "generate", QUESTION, "--show-steps")
    assert (done.returncode, done.stdout.decode()) == (0, "on yedi\n")


@pytest.mark.parametrize("errors", ["closed", "open"])
@pytest.mark.parametrize("command", [["generate"], ["generate", "--no-template"], ["fill"], ["generate", "-"]])
@pytest.mark.parametrize("stdin", ["closed", "empty"])  # Python itself refuses a folder
def test_no_text_is_said_and_fails(errors, command, stdin):
    done = run_with("open", errors, *command, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    assert_silent(done)
    assert done.stderr.count(b"\n") == (errors == "open")


def test_a_file_that_is_written_is_never_taken_for_a_closed_stream(tmp_path):
    name = tmp_path / "canvas.svg"
    done = run_with("closed", "closed", "generate", QUESTION, "--svg", name, "--show-steps", stdin="closed")
    assert done.returncode == 0
    assert name.read_text("utf-8").startswith("<svg ")
    assert "step 1" not in name.read_text("utf-8")


HOSTILE = "a\x1b[31mb\x07\x9bc\u202e\u061c\u2028d\x7f"


@pytest.fixture
def hostile(broken):
    """A bundle that says of itself what steers a terminal."""
    manifest = json.loads((broken / "diffutron.json").read_text("utf-8"))
    manifest["source"]["name"] = HOSTILE
    (broken / "diffutron.json").write_text(json.dumps(manifest), "utf-8")
    return broken


def is_plain(screen):
    """Whether nothing in a text could steer a terminal."""
    return all(letter in "\n\t" or letter.isprintable() for letter in screen)


def test_json_on_a_terminal_is_json_without_what_steers_it(hostile):
    arguments = ["generate", "x", "--steps", "2", "--json", "--model", str(hostile)]
    code, screen, _ = on_terminal(arguments)
    assert code == 0
    assert is_plain(screen)
    assert json.loads(screen)["model"]["name"] == "a\x1b[31mb\x07cd"  # what JSON escapes is left
    assert json.loads(run(*arguments).stdout)["model"]["name"] == HOSTILE


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["generate", "x", "--model", "no" + HOSTILE], 1),
        (["generate", "x", "--" + HOSTILE], 2),
        (["generate", "x", HOSTILE], 2),
        (["generate", "x", "--preset", HOSTILE], 2),
        (["generate", "x", "--variant", HOSTILE], 2),
        (["generate", "x", "--svg", "/nowhere/" + HOSTILE], 1),
        (["verify", "no" + HOSTILE], 1),
        (["bench", "no" + HOSTILE], 1),
        (["export", "no" + HOSTILE, "--" + HOSTILE], 2),
        ([HOSTILE], 2),
    ],
)
def test_messages_show_what_would_steer_a_terminal(terminal, arguments, code):
    if terminal:
        got, text, _ = on_terminal(arguments)
    else:
        done = run(*arguments)
        got, text = done.returncode, done.stderr.decode()
    assert got == code
    assert is_plain(text)
    assert text.splitlines()[-1].startswith("diffutron-ort: ")
    assert "31mb" in text


def test_a_name_of_two_lines_makes_a_message_of_one():
    done = run("generate", "x", "--model", "no\ndiffutron-ort: all is well")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1


class Terminal(io.StringIO):
    """A terminal that a program has made."""

    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_program_may_catch_both_streams(kind, monkeypatch):
    out, err = kind(), kind()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert cli.main(["generate", QUESTION, "--steps", "16"]) == 0
    assert cli.main(["generate", "x", "--model", "no\x1bwhere"]) == 1
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == "on yedi\n"
    assert "no\\u001bwhere is not a folder" in err.getvalue()


def test_a_program_finds_its_streams_as_they_were():
    code = (
        "import sys; from diffutron_ort.cli import main as cli; before = sys.stdout, sys.stderr\n"
        "codes = [cli.main(['generate', 'x', '--model', 'nowhere']), cli.main(['generate', 'x', '--steps', '0'])]\n"
        "assert (sys.stdout, sys.stderr) == before\n"
        "print(codes, sys.stdout.encoding, sys.stdout.errors)"
    )
    done = run("-c", code, command=[sys.executable], env=os.environ | {"PYTHONIOENCODING": "latin-1:replace"})
    assert done.stdout == b"[1, 2] iso8859-1 replace\n"


@pytest.mark.parametrize("which", ["stdout", "stderr"])
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_program_may_have_no_streams(which, is_closed, monkeypatch):
    gone = io.StringIO() if is_closed else None
    if is_closed:
        gone.close()
    monkeypatch.setattr(sys, which, gone)
    assert cli.main(["generate", "x", "--steps", "1"]) == 0
    assert cli.main(["generate", "x", "--model", "nowhere"]) == 1
    assert getattr(sys, which) is gone
