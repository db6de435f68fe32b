"""What is recorded of a bundle: that float64 is asked, and that bundles of any checkpoint replay."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from diffutron_ort import Diffutron
from diffutron_ort.bundle.conformance import read_pack
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.checks.verify import verify
from diffutron_ort.cli.main import main
from diffutron_ort.sampler.engine import denoise
from diffutron_ort_export import export
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.recipes import RECIPES
from diffutron_ort_export.recorder import OPTIONS, Float64, cases
from tests.conftest import GOLDEN

CHECKPOINT = GOLDEN / "tiny" / "checkpoint"


def test_bundles_of_any_checkpoint_and_vocabulary_replay(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "pieces.json").write_text(json.dumps([*range(5, 90), *range(100, 250, 3)]))
    pieces = tmp_path / "pieces.json"
    export(CHECKPOINT, tmp_path / "b", variants=["int8", "fp32"], output_vocabulary=pieces, accept=True)
    for folder in (tiny_bundle, tmp_path / "b"):
        assert [check.differences for check in verify(folder) if check.differences] == []
        assert len(read_pack(load_bundle(folder)).generations) >= 6


def test_a_generation_is_left_out_where_float64_takes_another_step(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(CHECKPOINT), revision=None, adapter=None)
    whole = list(cases(RECIPES["fp32"], tiny_bundle, source))
    original = Float64.__call__

    def wrong_once_penalised(self: Float64, batch: object, **asked: bool) -> object:
        found = original(self, batch, **asked)
        if batch.repetition_penalty[0] > 1:
            found.rest[0] += 100
        return found

    monkeypatch.setattr(Float64, "__call__", wrong_once_penalised)
    kept = list(cases(RECIPES["fp32"], tiny_bundle, source))
    assert 0 < len(kept) < len(whole)
    assert all(case.config.repetition_penalty == 1 for case in kept)


def test_float64_is_float64_and_its_cache_is_exact(tiny_bundle: Path) -> None:
    """With the past of an unchanged canvas the cached pass is the full one."""
    model = Diffutron.from_pretrained(tiny_bundle)
    forward = Float64(open_source(str(CHECKPOINT), revision=None, adapter=None))
    config = model.config(**OPTIONS[-1])
    canvas = model._prompts.canvas("deniz", True, config)
    steps = [step for _, step in denoise(forward, [canvas], config, model.bundle.special)]
    assert any(step.num_computed < len(step.ids) for step in steps)
    refreshed = config.replace(refresh_steps=1)
    every = [step for _, step in denoise(forward, [canvas], refreshed, model.bundle.special)]
    assert [step.num_computed for step in every] == [len(step.ids) for step in every]
    np.testing.assert_allclose(steps[1].confidence[:1], every[1].confidence[:1], rtol=0.2)
    assert {tensor.dtype.itemsize for tensor in forward.denoiser.parameters()} == {8}


def test_against_torch_measures_again(tiny_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", str(tiny_bundle), "--against", "torch", str(CHECKPOINT)]) == 0
    assert "ok      torch, fp32" in capsys.readouterr().out


def test_against_another_checkpoint_it_fails(
    tiny_bundle: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.export.conftest import edit_tensors

    edit_tensors(checkpoint / "model.safetensors", lambda tensors: tensors["head.dense.weight"].mul_(1.1))
    assert main(["verify", str(tiny_bundle), "--against", "torch", str(checkpoint)]) == 1
    said = capsys.readouterr()
    assert "FAILED  torch, fp32" in said.out
    assert "differs from transformers'" in said.err


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
