"""The table of commands, and what becomes of their errors."""

import signal
import subprocess
import sys

import pytest

from diffutron_ort.cli.main import COMMANDS, load, main
from tests.command import QUESTION, run


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["--temperature", "nan"], 2, "temperature=nan: must be a finite number"),
        (["--temperature", "inf"], 2, "temperature=inf"),
        (["--temperature", "-1"], 2, "temperature=-1.0"),
        (["--repetition-penalty", "0"], 2, "repetition_penalty=0"),
        (["--steps", "0"], 2, "steps=0: must be an integer from 1"),
        (["--max-new-tokens", "300"], 1, "the model's context is 256"),
        (["--variant", "int3"], 2, "variant='int3'"),
        (["--provider", "cuda"], 1, "provider 'CUDAExecutionProvider' is not available"),
        (["--model", "nowhere"], 1, "nowhere is not a folder"),
        (["--threads", "0"], 2, "threads=0"),
        (["--suppress-tokens", "999999"], 2, "suppress_tokens holds 999999"),
        (["--revision", "main"], 2, "only a hub id has revisions"),
        (["--model", "a" * 5000], 1, "is not a folder"),
        (["--stop", "\udcff"], 2, "stop="),
        (["--cfg-scale", "1e39"], 2, "cfg_scale=1e+39: must be a finite number from 0 to 1000"),
        (["--repetition-penalty", "1e-40"], 2, "repetition_penalty=1e-40"),
        (["--steps", "2147483647"], 2, "from 1 to 65536"),
        (["--preset", "fast", "--remasking", "random"], 2, "commit='factor'"),
        (["--refresh-steps", "-1"], 2, "refresh_steps=-1"),
        (["--refresh-entropy", "nan"], 2, "refresh_entropy=nan"),
    ],
)
def test_bad_input_gets_one_line_and_no_traceback(arguments, code, found, capsys):
    assert main(["generate", QUESTION, *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert found in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("argument", "stdin", "found"),
    [
        (["-"], b"\xff\xfe", b"standard input is not UTF-8"),
        ([b"ab\xff"], b"", b"half of a surrogate pair"),
        (["x", "--model", b"ab\xff"], b"", b"is not a folder"),
    ],
)
def test_bytes_that_are_no_text_are_refused(argument, stdin, found):
    done = run("generate", *argument, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    assert found in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_an_interrupt_ends_between_two_steps_with_130():
    code = (
        "import sys, time; from diffutron_ort.cli.main import main\n"
        "from diffutron_ort.runtime.session import Session\n"
        "passes, run = iter(range(3)), Session.__call__\n"
        "def held(*a, **k):\n"
        "    if next(passes, None) is None:\n"
        "        print('held', file=sys.stderr, flush=True)\n"
        "        while True: time.sleep(0.1)\n"
        "    return run(*a, **k)\n"
        f"Session.__call__ = held; sys.exit(main(['generate', {QUESTION!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"held\n" in iter(process.stderr.readline, b"")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err


def test_every_command_of_the_table_has_a_module():
    for name in COMMANDS:
        module = load([name, "x"])
        assert callable(module.add_arguments), name
        assert callable(module.run), name
    assert load([]) is load(["main"]) is load(["--help", "generate"]) is None


LOADED = """
import sys
from diffutron_ort.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"numpy", "onnxruntime", "tokenizers", "diffutron_ort.model"}),
        (["generat"], {"numpy", "onnxruntime", "tokenizers", "diffutron_ort.model"}),
        (["rm", "--help"], {"numpy", "onnxruntime", "tokenizers", "diffutron_ort.model"}),
        (
            ["generate", QUESTION, "--steps", "1"],
            {"difflib", "rich", "shutil", "subprocess", "webbrowser", "diffutron_ort_export"}
            | {f"diffutron_ort.{room}" for room in ("checks", "demo", "cli.live", "cli.svg")}
            | {f"diffutron_ort.cli.{name}" for name in COMMANDS if name != "generate"},
        ),
    ],
)
def test_a_command_imports_what_it_needs_and_no_more(arguments, absent):
    done = run("-c", LOADED, *arguments, command=[sys.executable])
    loaded = set(done.stderr.decode().splitlines()[-1].split())
    assert "diffutron_ort.cli.main" in loaded
    assert loaded & absent == set()
