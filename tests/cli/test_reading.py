"""The text that a command is given."""

import io
import sys

import pytest

from diffutron_ort.cli.main import main
from diffutron_ort.cli.reading import MOST_BYTES, read_text
from diffutron_ort.errors import InputError
from tests.command import QUESTION, run


def given(monkeypatch, content):
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    "content", ["ağ", "ağ\n", "ağ\r\n", "\ufeffağ\r\n"], ids=["bare", "a newline", "Windows'", "PowerShell's"]
)
def test_standard_input_is_a_text_without_its_last_newline(content, monkeypatch):
    given(monkeypatch, content.encode())
    assert read_text("-", "prompt") == "ağ"


def test_one_mark_of_byte_order_and_one_newline_are_dropped(monkeypatch):
    given(monkeypatch, "\ufeff\ufeffa\n\n".encode())
    assert read_text("-", "prompt") == "\ufeffa\n"
    assert read_text("\ufeffa\n", "prompt") == "\ufeffa\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_other_encodings_are_refused_by_name(encoding, mark, monkeypatch):
    given(monkeypatch, (mark + QUESTION).encode(encoding))
    with pytest.raises(InputError, match="not UTF-8, but UTF-16 or UTF-32: convert it"):
        read_text("-", "prompt")


@pytest.mark.parametrize("content", [b"\xff\n", "kaç".encode("cp1254"), b"a\xed\xa0\x80"])
def test_what_is_no_utf8_is_refused(content, monkeypatch):
    given(monkeypatch, content)
    with pytest.raises(InputError, match="standard input is not UTF-8"):
        read_text("-", "prompt")


BLANK = ["", " ", "\u3164", "\u2800\uffa0", "\t \r\n", "\u00a0\u3000", "\u200b", "\ufeff", "\0", "\x1b\x07", "\u202e"]


@pytest.mark.parametrize("text", BLANK)
@pytest.mark.parametrize("name", ["prompt", "text"])
def test_a_blank_text_is_refused(text, name, monkeypatch):
    with pytest.raises(InputError, match=f"^the {name} is blank: give it as an argument in quotes"):
        read_text(text, name)
    given(monkeypatch, text.replace("\0", "").encode())
    with pytest.raises(InputError, match=f"^standard input holds no {name}: give it as"):
        read_text("-", name)


@pytest.mark.parametrize("text", ["?", "x", "𝔸", "\u200bx", " . ", "<mask>", "1"])
def test_every_other_text_is_taken_as_it_is(text):
    assert read_text(text, "prompt") == text


def test_no_more_is_read_than_could_be_a_prompt(monkeypatch):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = b"a" * len(buffer)
            return len(buffer)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    with pytest.raises(InputError, match=f"more than {MOST_BYTES} bytes"):
        read_text("-", "prompt")


@pytest.mark.parametrize("stdin", [None, "closed"])
def test_without_a_standard_input_it_is_said_what_to_give(stdin, monkeypatch):
    monkeypatch.setattr(sys, "stdin", stdin and io.StringIO())
    if stdin:
        sys.stdin.close()
    with pytest.raises(InputError, match="^standard input is closed, so there is no prompt: give it"):
        read_text("-", "prompt")


def test_a_program_may_put_text_there(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n"))
    assert read_text("-", "prompt") == QUESTION


@pytest.mark.parametrize("command", [["generate"], ["generate", "--no-template"], ["fill"]])
@pytest.mark.parametrize("text", ["", "  "])
def test_commands_refuse_a_blank_text_without_loading_a_model(command, text, capsys):
    assert main([*command, text, "--model", "nowhere"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is blank" in captured.err
    assert captured.err.count("\n") == 1


def test_what_powershell_pipes_is_answered():
    assert run("generate", stdin=f"\ufeff{QUESTION}\r\n".encode()).stdout.decode() == "on yedi\n"
