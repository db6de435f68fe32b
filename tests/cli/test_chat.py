"""`diffutron-ort chat` on pipes: a script of questions and commands."""

import json
import signal
import subprocess
import sys

import pytest

from tests.cli.test_streams import FULL, assert_silent, run_with
from tests.command import BUFFERED, COMMAND, QUESTION, run

SCRIPT = f"{QUESTION}\n/reset\n\nZıddını yaz: sığ\n"


def chat(script, *arguments, **options):
    return run("chat", *arguments, stdin=script if isinstance(script, bytes) else script.encode(), **options)


def test_a_script_gets_its_answers_and_nothing_else_on_standard_output():
    done = chat(SCRIPT)
    assert (done.returncode, done.stdout.decode()) == (0, "on yedi\nderin\n")
    assert "the embedded demonstration answers" in done.stderr.decode()
    assert done.stderr.decode().count("\n") == 2


def test_a_line_that_fails_costs_no_other():
    done = chat(f"/stepz 3\n{'elma ' * 300}\n{QUESTION}")
    assert (done.returncode, done.stdout.decode()) == (1, "on yedi\n")
    lines = done.stderr.decode().splitlines()[1:]
    assert "did you mean /steps?" in lines[0]
    assert "the model's context is 256" in lines[1]


def test_json_has_an_object_for_each_turn():
    done = chat(f"{QUESTION}\n/reset\n{'elma ' * 300}\n", "--json")
    assert done.returncode == 1
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["question"], first["text"], first["finish_reason"]) == (QUESTION, "on yedi", "stop")
    assert second.keys() == {"question", "error"}


def test_flags_are_what_the_talk_begins_with(tmp_path):
    file = tmp_path / "talk.md"
    done = chat(
        f"/options\n/system\n/preset\n{QUESTION}\n/save {file}\n",
        "--system",
        "Kısa.",
        "--preset",
        "fast",
        "--seed",
        "7",
    )
    assert done.returncode == 0
    for said in ("(set)", "Kısa.", "fast cache=block"):
        assert said in done.stderr.decode()
    assert file.read_text("utf-8").endswith("**assistant**\n\non yedi\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--steps", "0"], 2), (["--model", "x"], 2), (["--variant", "int3"], 2), (["nowhere"], 1), (["--cache", "x"], 2)],
)
def test_wrong_flags_and_models_end_at_once(arguments, code):
    done = chat(SCRIPT, *arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().count("\n") <= 2
    assert_silent(done)


@pytest.mark.parametrize("script", [SCRIPT.encode("utf-16"), SCRIPT.encode("utf-16-le")])
def test_other_encodings_are_refused_by_name(script):
    done = chat(script)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "UTF-16" in done.stderr.decode()


def test_bytes_that_are_no_text_cost_their_line_alone():
    done = chat(b"\xef\xbb\xbf" + QUESTION.encode() + b"\r\n/reset\r\na\xff\r\n" + QUESTION.encode())
    assert (done.returncode, done.stdout.decode()) == (1, "on yedi\non yedi\n")
    assert "not valid Unicode" in done.stderr.decode()


def test_a_long_line_is_refused_before_it_is_read_whole():
    done = chat(b"a" * (2**24 + 1) + b"\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "more than 16777216 bytes" in done.stderr.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="streams are different there")
class TestStreams:
    @pytest.mark.parametrize(("stdin", "code"), [("empty", 0), ("closed", 1)])
    def test_an_empty_script_is_done_and_a_closed_one_fails(self, stdin, code):
        done = run_with("open", "open", "chat", stdin=stdin)
        assert (done.returncode, done.stdout) == (code, b"")
        assert done.stderr.count(b"\n") == 1 + code
        assert_silent(done)

    @pytest.mark.parametrize("output", [pytest.param("full", marks=FULL), "unread", "closed"])
    def test_answers_that_cannot_be_written_end_the_talk(self, output, tmp_path):
        script = tmp_path / "script"
        script.write_text(SCRIPT, "utf-8")
        done = run_with(output, "open", "chat", stdin=script)
        assert done.returncode == (output != "closed")
        assert_silent(done)
        assert (b"standard output" in done.stderr) is (output == "full")

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_ends_a_script(self, number, code):
        with subprocess.Popen(
            [*COMMAND, "chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED
        ) as process:
            process.stdin.write(f"{QUESTION}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == b"on yedi\n"  # each answer comes when it is there
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert b"Traceback" not in errors
