"""What a bundle holds, and that it appears whole or not at all."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffutron_ort import signals
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import CheckpointError, DiffutronError, FidelityError, OptionError
from diffutron_ort.text.chat_template import CHAT_TEMPLATE
from diffutron_ort_export import export, pipeline, variants
from diffutron_ort_export.check import verify
from tests.export.conftest import TINY, edit_json


def use(monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[variants.Job], variants.Card]) -> None:
    """Have a variant written by `write`."""
    writer = pipeline.writer
    monkeypatch.setattr(pipeline, "writer", lambda recipe: write if recipe.name == name else writer(recipe))


def manifest(bundle: Path) -> dict:
    return json.loads((bundle / "diffutron.json").read_text())


def test_files(tiny_bundle: Path) -> None:
    found = sorted(path.relative_to(tiny_bundle).as_posix() for path in tiny_bundle.rglob("*") if path.is_file())
    assert found == [
        "config.json",
        "conformance.json",
        "diffutron.json",
        "generation_config.json",
        "onnx/denoiser.onnx",
        "onnx/denoiser.onnx.data",
        "onnx/generate.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_manifest_has_size_and_hash_of_every_other_file(tiny_bundle: Path) -> None:
    files = manifest(tiny_bundle)["files"]
    for path in tiny_bundle.rglob("*"):
        name = path.relative_to(tiny_bundle).as_posix()
        if path.is_file() and name != "diffutron.json":
            content = path.read_bytes()
            assert files.pop(name) == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert not files


def test_manifest(tiny_bundle: Path) -> None:
    found = manifest(tiny_bundle)
    assert found["format"] == 2
    assert found["source"] == {"name": "checkpoint", "revision": None, "adapter": None}
    assert (found["context_length"], found["vocab_size"], found["layers"], found["hidden_size"]) == (256, 512, 7, 64)
    assert found["special_ids"] == {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
    assert found["chat_template"] == dict(CHAT_TEMPLATE)
    assert found["stop_sequences"] == [{"text": "[/Answer]", "ids": [310, 276, 267, 361, 312, 277]}]
    assert found["least_onnxruntime"] == "1.24.2"
    assert found["uniform"]["vectors"][4] == {
        "seed": 1,
        "stream": 0,
        "block": 0,
        "step": 0,
        "position": 64,
        "hash": 3566638648,
    }
    assert found["variants"].keys() == {"fp32"}
    assert found["variants"]["fp32"]["graph"] == "onnx/denoiser.onnx"
    assert found["variants"]["fp32"]["weights"] == "onnx/denoiser.onnx.data"
    assert found["variants"]["fp32"]["fidelity"]["max_abs"] < 1e-4
    assert found["tools"].keys() == {"diffutron-ort", "onnx", "onnx-ir", "onnxscript", "numpy", "onnxruntime"}


def test_nothing_of_the_machine_is_in_the_settings(tiny_bundle: Path) -> None:
    for path in tiny_bundle.glob("*.json"):
        assert str(TINY.parent) not in path.read_text()


def test_generation_defaults_of_the_source(checkpoint: Path, tmp_path: Path) -> None:
    options = {"temperature": 0.0, "repetition_penalty": 1.0, "eos_token_id": 1, "transformers_version": "5"}
    (checkpoint / "generation_config.json").write_text(json.dumps(options))
    export(checkpoint, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert found == {"temperature": 0.0, "repetition_penalty": 1.0}


def test_generation_defaults_without_a_meaning(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "generation_config.json").write_text('{"temperature": -1}')
    with pytest.raises(OptionError, match="temperature"):
        export(checkpoint, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_an_empty_directory_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    export(TINY / "checkpoint", ".")
    assert load_bundle(".").variants.keys() == {"fp32"}
    assert not list(Path().glob(".*"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_while_it_is_recorded_a_bundle_is_open_to_its_export_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; from diffutron_ort.bundle.load import load_bundle; load_bundle(sys.argv[1])"
    record, seen = pipeline.record, []

    def watched(folder: Path, *given: object) -> dict:
        recorded = record(folder, *given)
        seen.append(subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True).stderr)
        return recorded

    monkeypatch.setattr(pipeline, "record", watched)
    export(TINY / "checkpoint", tmp_path / "out")
    assert len(seen) == 1
    assert "has format 'unfinished'" in seen[0]
    assert load_bundle(tmp_path / "out").files["conformance.json"]


def test_folders_above_are_made(tmp_path: Path) -> None:
    export(TINY / "checkpoint", tmp_path / "a" / "b" / "out", context_length=300)
    assert manifest(tmp_path / "a" / "b" / "out")["context_length"] == 300


@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_a_place_that_is_taken(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "full":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match="exists already; give a path that is free, or an empty directory"):
        export(TINY / "checkpoint", out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_large_difference_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST_ERROR", 0.0)
    with pytest.raises(
        FidelityError, match=r"a logit differs from the reference's by .* allowed is 0\. Nothing was writt"
    ):
        export(TINY / "checkpoint", tmp_path / "above" / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_second_variant_that_fails_takes_the_first_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(job: variants.Job) -> variants.Card:
        assert (job.path.parent / "denoiser.onnx").exists()
        monkeypatch.setattr(verify, "MOST_ERROR", 0.0)
        return variants.write_fp32(job)

    use(monkeypatch, "int8", strict)
    with pytest.raises(FidelityError, match="allowed is 0"):
        export(TINY / "checkpoint", tmp_path / "out", variants=("fp32", "int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), DiffutronError)],
)
def test_an_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    def write(job: variants.Job) -> variants.Card:
        job.path.write_bytes(b"half of it")
        raise error

    use(monkeypatch, "fp32", write)
    with pytest.raises(raised):
        export(TINY / "checkpoint", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_refused_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    edit_json(checkpoint / "config.json", vocab_size=500)
    with pytest.raises(CheckpointError):
        export(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


# Exports, and holds still once graphs and weights are written.
HELD = """
import os, sys, time
from diffutron_ort.__main__ import main
from diffutron_ort_export import pipeline

def held(folder):
    os.write(1, b"held\\n")
    while True:
        time.sleep(0.1)

pipeline.record = held
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("number", "code", "out"),
    [(signal.SIGINT, 130, "out"), (signal.SIGTERM, 128 + 15, "there"), (signal.SIGHUP, 128 + 1, "out")],
)
def test_a_signal_leaves_nothing(tmp_path: Path, number: int, code: int, out: str) -> None:
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", HELD, "export", TINY / "checkpoint", tmp_path / out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"held\n"
        assert list(tmp_path.rglob("*.data"))
        process.send_signal(number)
        assert process.wait(120) == code
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_handlers_of_signals_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is touched that a program has set, or that is ignored, as SIGHUP under nohup."""

    def write(job: variants.Job) -> variants.Card:
        during.extend(map(signal.getsignal, numbers))
        raise RuntimeError

    numbers, during = (signal.SIGTERM, signal.SIGHUP), []
    use(monkeypatch, "fp32", write)
    before = [signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGHUP, signal.SIG_IGN)]
    try:
        with pytest.raises(RuntimeError):
            export(TINY / "checkpoint", tmp_path / "out")
        assert [signal.getsignal(number) for number in numbers] == [before[0], signal.SIG_IGN]
        assert during == [signals.end, signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGHUP, before[1])


def test_beside_the_main_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(export, TINY / "checkpoint", tmp_path / "out").result()
    assert load_bundle(tmp_path / "out")
