"""What reaches a terminal, whoever wrote it."""

import io
import os
import signal
import subprocess
import sys
import time
import unicodedata
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.cli import main as cli
from diffutron_ort.cli.terminal import drawing, escaped, guarded, say, stripped
from diffutron_ort.errors import DiffutronWarning
from tests.command import COMMAND, QUESTION, run

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Unicode's Bidi_Control


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self):
        return True


@contextmanager
def screens():
    """Yield the terminals that both streams are meanwhile."""
    with redirect_stdout(Terminal()) as out, redirect_stderr(Terminal()) as err:
        yield out, err


def test_what_steers_a_terminal_is_stripped_or_escaped_and_nothing_else():
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        steers = unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in BIDI
        if letter in "\n\t" or not (steers or 0x206A <= code <= 0x206F):
            assert stripped(letter) == escaped(letter) == letter
        else:
            assert stripped(letter) == ""
            assert escaped(letter) == f"\\u{code:04x}"


def test_answers_lose_it_on_a_terminal_alone():
    text = "a\x1b[31m\x07\nİ\t\u202e\u00a0\u200d"
    with screens() as (out, _), guarded():
        print(text)
    assert out.getvalue() == "a[31m\nİ\t\u00a0\u200d\n"


def test_answers_are_byte_for_byte_elsewhere(capsys):
    text = "a\x1b[31m\x07\nİ\t\u202e\u00a0\u200d"
    with guarded():
        print(text)
    assert capsys.readouterr().out == text + "\n"


def test_a_progress_bar_of_a_library_stays_whole():
    with screens() as (_, err), guarded():
        for text in ("\r 10% \x1b[31m|", "\n\n", "\x1b[A\x1b[A", "a\rb", "\x1b[Ax"):
            sys.stderr.write(text)
    assert err.getvalue() == "\r 10% \\u001b[31m|\n\n\x1b[A\x1b[Aa\\u000db\\u001b[Ax"


def test_what_draws_itself_is_let_through():
    with screens() as (_, err), guarded():
        drawing(sys.stderr).write("\x1b[31m")
    assert err.getvalue() == "\x1b[31m"
    assert drawing(sys.stdout) is sys.stdout


def test_a_message_is_one_bounded_line():
    with screens() as (_, err), guarded():
        say("a\n\n  b\u2028c" + "d" * 10_000 + "e")
    [line] = err.getvalue().splitlines()
    assert line.startswith("diffutron-ort: a b cd")
    assert line.endswith("de")
    assert len(line) < 2100


def warn(text, kind=DiffutronWarning):
    """Return a method of a model that warns twice, each time a text is filled."""

    def fill(self, *_, **__):
        for _ in range(2):
            warnings.warn(text, kind, stacklevel=1)
        return "done"

    return fill


@pytest.mark.parametrize("asked", ["", "error", "ignore"])
def test_our_warnings_are_said_once_a_run(asked, monkeypatch, capsys):
    monkeypatch.setattr(Diffutron, "fill", warn("there is no <mask>\x1b"))
    for _ in range(2):
        with warnings.catch_warnings():
            if asked:
                warnings.simplefilter(asked)
            assert cli.main(["fill", "x"]) == 0
        captured = capsys.readouterr()
        assert captured.out == "done\n"
        assert captured.err.splitlines()[1:] == ["diffutron-ort: there is no <mask>\\u001b"]


def test_warnings_of_libraries_are_for_those_who_ask():
    code = (
        "import sys, warnings; from diffutron_ort import Diffutron; from diffutron_ort.cli import main as cli\n"
        "Diffutron.fill = lambda *_, **__: warnings.warn('old', FutureWarning) or 'done'; cli.main(['fill', 'x'])"
    )
    for asked, shown in ([], False), (["-W", "default"], True):
        done = run(*asked, "-c", code, command=[sys.executable])
        assert done.stdout == b"done\n"
        assert (b"FutureWarning: old" in done.stderr) is shown


def raising(error):
    def fill(self, *_, **__):
        raise error

    return fill


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (MemoryError(), "out of memory"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OSError(24, "Too many open files"), "[Errno 24] Too many open files"),
        (FileNotFoundError(2, "No such file or directory", "a\x1b"), "a\\u001b: No such file or directory"),
        (BrokenPipeError(32, "Broken pipe"), "[Errno 32] Broken pipe"),  # another's than standard output
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread"),
        (ValueError("a\nb"), "ValueError: a b"),
    ],
)
def test_every_error_is_one_line(error, found, monkeypatch, capsys):
    monkeypatch.setattr(Diffutron, "fill", raising(error))
    assert cli.main(["fill", "x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    _, line = captured.err.splitlines()
    assert line.startswith(f"diffutron-ort: {found}")


def test_a_developer_sees_where_an_error_is_from():
    code = (
        "from diffutron_ort import Diffutron; from diffutron_ort.cli import main as cli\n"
        "def fill(*_, **__):\n    raise RuntimeError('ours')\n"
        "Diffutron.fill = fill; cli.main(['fill', 'x'])"
    )
    assert b"Traceback" in run("-X", "dev", "-c", code, command=[sys.executable]).stderr
    assert b"Traceback" not in run("-c", code, command=[sys.executable]).stderr


def test_what_cannot_be_imported_is_one_line():
    code = "import sys; sys.modules['numpy'] = None; from diffutron_ort.__main__ import main; sys.exit(main())"
    done = run("-c", code, "generate", "x", command=[sys.executable])
    assert (done.returncode, done.stdout) == (1, b"")
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("diffutron-ort: cannot start, ModuleNotFoundError: ")


# What Python itself does before our code answers interrupts is not ours to answer for.
ANSWERING = """
import signal, sys

def first(*given, usual=signal.signal):
    signal.signal = usual
    signal.signal(*given)
    print(file=sys.stderr, flush=True)

signal.signal = first
"""
ENTRY = f"{ANSWERING}from diffutron_ort.__main__ import main; sys.exit(main())"
MODULE = f"{ANSWERING}import runpy; runpy.run_module('diffutron_ort', run_name='__main__')"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
@pytest.mark.parametrize("code", [ENTRY, MODULE])
@pytest.mark.parametrize("wait", [0.05, 0.1, 0.2])
def test_an_interrupt_while_packages_are_imported_is_silent(code, wait, tmp_path):
    os.mkfifo(tmp_path / "unread")  # the command cannot end before the interrupt
    command = [sys.executable, "-c", code, "generate", QUESTION, "--threads", "1", "--svg", tmp_path / "unread"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stderr.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        reader = os.open(tmp_path / "unread", os.O_RDONLY | os.O_NONBLOCK)  # lest it came just before a wait for one
        _, err = process.communicate(timeout=120)
    os.close(reader)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert err.count(b"\n") <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_an_interrupt_that_a_library_makes_another_error_of_is_one():
    code = (
        "import os, signal, sys, time; from diffutron_ort.cli.terminal import program\n"
        "def main():\n"
        "    try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "    except KeyboardInterrupt: return 1\n"
        "sys.exit(program(main))"
    )
    assert run("-c", code, command=[sys.executable]).returncode == 130


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_an_interrupt_that_is_ignored_stays_so():
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    ignoring = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen([*COMMAND, "generate"], **streams, preexec_fn=ignoring) as process:
        for _ in range(5):  # while packages are imported, or the question is awaited
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(QUESTION.encode(), timeout=120)
    assert (process.returncode, out.decode()) == (0, "on yedi\n")
