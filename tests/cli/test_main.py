import json
import signal
import subprocess
import sys
import time

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.cli.main import main
from diffutron_ort.config import OPTION_NAMES
from diffutron_ort.text.chat_template import render_chat
from tests.command import QUESTION, run


def test_the_answer_and_nothing_else_is_on_standard_output():
    done = run("generate", QUESTION)
    assert (done.returncode, done.stdout.decode()) == (0, "on yedi\n")
    assert b"embedded demonstration" in done.stderr


def test_a_named_model_needs_no_notice(capsys, broken):
    assert main(["generate", QUESTION, "--model", str(broken)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["generate", "-"], ["generate"]])
def test_a_prompt_is_read_from_standard_input(arguments):
    assert run(*arguments, stdin=f"{QUESTION}\n".encode()).stdout.decode() == "on yedi\n"


def test_json_is_one_object_with_everything(capsys):
    assert main(["generate", QUESTION, "--json", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out)
    assert out.count("\n") == 1
    assert "artı" not in result["text"]
    assert result["text"] == "on yedi"
    assert len(result["ids"]) == 64
    assert result["steps"] <= 32
    assert result["passes"]["full"] == result["steps"]
    assert result["passes"]["cached"] == 0
    assert result["finish_reason"] == "stop"
    length = len(Diffutron.from_pretrained().tokenizer.encode(render_chat([{"role": "user", "content": QUESTION}])))
    assert result["prompt_tokens"] == length
    assert result["completion_tokens"] == len(Diffutron.from_pretrained().tokenizer.encode("on yedi\n"))
    assert 0 < result["least_confidence"] <= result["mean_confidence"] <= 1
    assert result["seconds"] > 0
    assert result["masks_left"] == result["ids"].count(4)
    assert result["model"]["name"]
    assert set(result["options"]) == OPTION_NAMES
    assert result["options"]["seed"] == 4


def test_every_option_is_a_flag_with_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in out for name in OPTION_NAMES)


def test_flags_reach_the_options(capsys):
    flags = "--preset long --steps 9 --max-new-tokens 12 --block-length 4 --temperature 0.5 --repetition-penalty 1.1 "
    flags += (
        "--remasking random --stochastic-transfer --cfg-scale 0.5 --cfg-keep-tokens 5 6 --schedule cosine --seed 7 "
    )
    flags += "--stop x --stop y --no-early-end --suppress-tokens 8 --penalty-exempt 9 "
    flags += "--cache block --refresh-steps 2 --refresh-entropy 0.5 --commit schedule --commit-factor 0.8 "
    flags += "--commit-entropy 0.2 --no-spin"
    assert main(["generate", "x", "--json", *flags.split()]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == {
        "steps": 9,
        "max_new_tokens": 12,
        "block_length": 4,
        "temperature": 0.5,
        "repetition_penalty": 1.1,
        "remasking": "random",
        "stochastic_transfer": True,
        "cfg_scale": 0.5,
        "cfg_keep_tokens": [5, 6],
        "schedule": "cosine",
        "seed": 7,
        "stop": ["x", "y"],
        "early_end": False,
        "suppress_tokens": [8],
        "penalty_exempt": [9],
        "cache": "block",
        "refresh_steps": 2,
        "refresh_entropy": 0.5,
        "commit": "schedule",
        "commit_factor": 0.8,
        "commit_entropy": 0.2,
    }


def test_json_tells_what_the_passes_computed(capsys):
    flags = "--cache block --refresh-steps 3 --max-new-tokens 8 --block-length 4 --steps 8 --no-early-end"
    assert main(["generate", "x", "--json", *flags.split()]) == 0
    result = json.loads(capsys.readouterr().out)
    length = len(Diffutron.from_pretrained().tokenizer.encode(render_chat([{"role": "user", "content": "x"}])))
    full = 2 * (length + 8)  # at the start of a block, and again before its fourth step
    assert result["passes"] == {"full": 4, "cached": 4, "computed": 2 * full + 4 * 4, "predicted": 2 * (4 + 3 + 2 + 1)}


def test_the_fast_preset_answers(capsys):
    assert main(["generate", QUESTION, "--json", "--preset", "fast"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["text"] == "on yedi"
    assert result["steps"] <= 4


def test_no_spin_reaches_onnxruntime(monkeypatch):
    asked = []
    real = Diffutron.from_pretrained
    monkeypatch.setattr(Diffutron, "from_pretrained", lambda *a, **k: asked.append(k["spin"]) or real(*a, **k))
    for flags in ([], ["--no-spin"]):
        assert main(["generate", "x", "--steps", "1", *flags]) == 0
    assert asked == [True, False]


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
        (["--provider", "cuda"], 1, "provider 'CUDAExecutionProvider' is not there"),
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


def test_fill(capsys):
    assert main(["fill", "bir <mask> iki"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("bir ")
    assert out.endswith(" iki\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_an_interrupt_ends_between_two_steps_with_130():
    slow = (
        "import sys, time; from diffutron_ort.cli.main import main; from diffutron_ort.runtime.session import Session\n"
        "run = Session.__call__\n"
        "def slowly(*a, **k):\n    print('pass', file=sys.stderr, flush=True); time.sleep(0.3); return run(*a, **k)\n"
        f"Session.__call__ = slowly; sys.exit(main(['generate', {QUESTION!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"pass\n" in iter(process.stderr.readline, b"")
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err


def test_export_without_its_packages_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffutron_ort_export.command", None)
    assert main(["export", "a", "b"]) == 1
    assert "pip install 'diffutron-ort[export]'" in capsys.readouterr().err
