"""The paper's recipe on nano: its adapter, its split, that it goes on after a kill, and all of it in a tiny size."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = pytest.mark.torch

NANO = Path(__file__).parent.parent / "models" / "nano"
PIPELINE = NANO / "pipeline"
sys.path += [str(NANO), str(PIPELINE)]

import loop  # noqa: E402
import lora  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import texts  # noqa: E402
import training  # noqa: E402
from exercises import KINDS, SUM, split_of  # noqa: E402
from network import HIDDEN, INTERMEDIATE, LAYERS  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from stages import STAGES  # noqa: E402
from turkish import number  # noqa: E402

from diffutron_ort_export.checkpoint.source import open_source  # noqa: E402

BASE, CPT, SFT, _ = STAGES


@pytest.fixture
def adapted():
    """Nano with an adapter that does something."""
    torch.manual_seed(0)
    network = lora.Adapted(NANO / "checkpoint")
    for parameter in loop.trainable(network):
        torch.nn.init.normal_(parameter, std=0.02)
    return network


def trained(layers, hidden, intermediate, rank):
    """Count the parameters of an adapter of both maps of attention and both of the feed-forward layer."""
    ends = [(hidden, 3 * hidden), (hidden, hidden), (hidden, 2 * intermediate), (intermediate, hidden)]
    return layers * rank * sum(map(sum, ends))


def test_the_adapter_is_the_papers_in_small(adapted):
    paper = trained(22, 768, 1152, 256)
    assert paper / (307_786_240 + paper) == pytest.approx(0.1494, abs=5e-5)  # the model card's 14.94 %
    assert lora.counts(adapted)["trained"] == trained(LAYERS, HIDDEN, INTERMEDIATE, HIDDEN * 256 // 768)
    config = adapted.model.peft_config["default"]
    assert (config.lora_alpha, config.target_modules) == (config.r, {"attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"})


def test_the_exporter_merges_the_adapter_as_peft_does(adapted, tmp_path):
    adapted.model.save_pretrained(tmp_path)
    weights = open_source(str(NANO / "checkpoint"), adapter=tmp_path).weights
    for name, ours in adapted.merged().state_dict().items():
        np.testing.assert_allclose(weights.rows(name), ours.numpy(), rtol=0, atol=1e-6)


def test_no_stage_reads_what_is_held_out(tmp_path):
    a, b = (number(n) for n in Random(0).sample(range(100), 2))
    assert texts.key_of("sum", f"{a} artı {b}, x eder.") == SUM.format(a=a, b=b)
    settings, held = training.Settings(tmp_path, 1, 1, 2, 0), texts.held_out(260)
    assert {split_of(texts.key_of(kind, text)) for kind, text in held} == {"held-out"}
    for stage in (BASE, CPT):
        targets = next(training.streams(stage, settings, 0)).targets
        read = training.tokenizer().decode_batch(targets.tolist(), skip_special_tokens=False)
        assert not any(text in row for _, text in held for row in read)
    asked = training.streams(SFT, settings, 0)
    assert {list(KINDS)[kind] for _ in range(40) for kind in next(asked).kinds} == SFT.shares.keys()


@pytest.mark.parametrize("stage", [BASE, CPT])
def test_a_stage_goes_on_after_a_kill_to_the_same_result(stage, tmp_path, monkeypatch):
    def settings(name):
        folder = tmp_path / name
        folder.mkdir()
        if stage.after:
            (folder / stage.after).mkdir()
            (folder / stage.after / "checkpoint").symlink_to(NANO / "checkpoint")
        return training.Settings(folder, scale=1, leg=2, threads=2, seed=0)

    calls, gradient = count(), loop.gradient

    def killed(network, batches):
        if next(calls) == 6:  # in the fourth step, the second of its leg
            raise KeyboardInterrupt
        return gradient(network, batches)

    small, whole, broken = replace(stage, rows=4, steps=5), settings("whole"), settings("broken")
    training.train(small, whole)
    monkeypatch.setattr(loop, "gradient", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train(small, broken)
    monkeypatch.undo()
    assert torch.load(broken.run / stage.name / "state.pt")["scalars"]["step"] == 2
    training.train(small, broken)
    one, other = (load_file(each.run / stage.name / "checkpoint" / "model.safetensors") for each in (whole, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


HELD = f"""
import runpy, signal, sys
sys.path[:0] = [{str(NANO)!r}, {str(PIPELINE)!r}]
import loop

save = loop.Loop._save

def held(self):
    save(self)
    if self.file.parent.name == "cpt":
        print("held", flush=True)
        signal.pause()

loop.Loop._save = held
runpy.run_path({str(PIPELINE / "run.py")!r}, run_name="__main__")
"""


def test_the_recipe_from_end_to_end_with_a_kill(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    sizes = ["--minutes", "0.06", "--leg", "1", "--count", "3", "--variants", "fp32"]
    arguments = [*sizes, "--run", str(folder), "--out", str(out)]
    with subprocess.Popen([sys.executable, "-c", HELD, *arguments], stdout=subprocess.PIPE) as begun:
        assert b"held\n" in iter(begun.stdout.readline, b"")
        begun.kill()
    assert (folder / "cpt" / "state.pt").exists()
    assert not (folder / "cpt" / "trained.json").exists()
    command = [sys.executable, str(PIPELINE / "run.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads((out / "stages.json").read_text())
    assert [row["stage"] for row in rows] == [stage.name for stage in STAGES]
    assert done.stdout.endswith(report.table(rows) + "\n")
    assert len({row["sentences"]["overall"] for row in rows}) == len(STAGES)  # each has learnt something
    assert all(row["fidelity"]["fp32"]["top1_agreement_clear"] == 1 for row in rows)
    assert (out / "stages.png").stat().st_size > 10_000


def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text('{"minutes": 3}')
    monkeypatch.setattr(sys, "argv", ["run.py", "--run", str(tmp_path)])
    with pytest.raises(SystemExit, match="another --run"):
        run.main()


@pytest.mark.parametrize("option", ["--minutes=0", "--threads=-1", "--count=0"])
def test_a_size_of_nothing_is_refused(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", option])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "must be more than 0" in capsys.readouterr().err


def test_the_tables_figures_are_those_of_the_run():
    rows = json.loads((PIPELINE / "stages.json").read_text())
    assert report.table(rows) in (PIPELINE / "README.md").read_text()
