"""What is recorded of a bundle: that the error of its card counts, and that bundles of any checkpoint replay."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from diffutron_ort import Diffutron
from diffutron_ort.bundle.conformance import read_pack
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.checks.verify import verify
from diffutron_ort.cli.main import main
from diffutron_ort_export import export
from diffutron_ort_export.generations import Recorder, allowed_error
from diffutron_ort_export.kinds import KINDS
from tests.conftest import GOLDEN

CHECKPOINT = GOLDEN / "tiny" / "checkpoint"


def test_bundles_of_any_checkpoint_and_vocabulary_replay(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "pieces.json").write_text(json.dumps([*range(5, 90), *range(100, 250, 3)]))
    pieces = tmp_path / "pieces.json"
    export(CHECKPOINT, tmp_path / "b", variants=["int8", "fp32"], output_vocabulary=pieces, accept=True)
    for folder in (tiny_bundle, tmp_path / "b"):
        assert [check.differences for check in verify(folder) if check.differences] == []
        assert len(read_pack(load_bundle(folder)).generations) >= 6


def test_fewer_generations_are_recorded_the_larger_the_error_on_the_card(tiny_bundle: Path) -> None:
    model = Diffutron.from_pretrained(tiny_bundle)

    def steps(error: float) -> list[Any]:
        fp32 = model.bundle.variants["fp32"]
        card = fp32.fidelity | {"max_abs": error}
        bundle = replace(model.bundle, variants={"fp32": replace(fp32, fidelity=card)})
        recorder = Recorder(Diffutron(bundle, model.tokenizer, model.forward), "fp32")
        found = [recorder.case(kind, number) for number, kind in enumerate(KINDS)]
        return [case.steps for case in found if case is not None]

    kept = [len(steps(error)) for error in (0.0, 1e-4, 1e-3, 0.1)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > len(KINDS) / 2
    assert kept[-1] == 0


def test_a_quantized_variant_has_no_error_that_could_be_allowed() -> None:
    variants = load_bundle().variants
    assert allowed_error(variants["int8"]) is None
    assert allowed_error(variants["fp32"]) == 100 * variants["fp32"].fidelity["max_abs"]


@pytest.mark.torch
def test_against_torch_measures_again(tiny_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", str(tiny_bundle), "--against", "torch", str(CHECKPOINT)]) == 0
    assert "ok      torch, fp32" in capsys.readouterr().out


@pytest.mark.torch
def test_against_another_checkpoint_it_fails(
    tiny_bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.export.conftest import edit_tensors

    def scaled(tensors: Any) -> None:
        tensors["head.dense.weight"] = (tensors["head.dense.weight"] * 1.1).astype(tensors["head.dense.weight"].dtype)

    edit_tensors(checkpoint / "model.safetensors", scaled)
    assert main(["verify", str(tiny_bundle), "--against", "torch", str(checkpoint)]) == 1
    said = capsys.readouterr()
    assert "FAILED  torch, fp32" in said.out
    assert "a logit differs from the reference's by" in said.err


def test_masks_that_are_left_over_are_no_difference(tmp_path: Path) -> None:
    """A checkpoint whose best token is often `<mask>` leaves places masked, in the loop and in the graph."""
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    shutil.copytree(CHECKPOINT, checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["decoder.bias"][4] += 2.5
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})
    export(checkpoint, bundle)
    mask = load_bundle(bundle).special.mask
    left = [int((case.canvas(mask) == mask).sum()) for case in read_pack(load_bundle(bundle)).generations]
    assert any(left)
    assert [check.differences for check in verify(bundle) if check.differences] == []
