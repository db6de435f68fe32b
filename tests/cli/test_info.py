"""`diffutron-ort info`: what it says of a bundle and of a checkpoint, for people and as JSON."""

import json
from pathlib import Path

import pytest

from diffutron_ort import user_cache
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.cli.main import main
from tests.conftest import GOLDEN


def said(capsys, *arguments):
    assert main(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_json_tells_all_that_the_manifest_says(capsys):
    found, bundle = json.loads(said(capsys, "--json")), load_bundle()
    assert found["source"] == bundle.source
    assert found["format"] == 2
    assert found["tools"]["diffutron-ort"] == "0.1.0"
    assert found["special_ids"] == {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
    assert found["stop_sequences"] == [{"text": "[/Answer]", "ids": [1773]}]
    assert found["options"] == {"repetition_penalty": 1.0, "temperature": 0.0}
    assert found["variants"].keys() == {"fp32", "int8"}
    int8 = found["variants"]["int8"]
    assert int8["here"] == int8["files"]
    assert int8["providers"] == ["cpu"]
    assert int8["fidelity"]["agreement"] == 1.0
    assert int8["size"] == sum((bundle.folder / name).stat().st_size for name in int8["files"])


def test_what_is_not_here_is_said(broken, capsys):
    (broken / "onnx" / "denoiser.onnx.data").write_bytes(b"cut")
    for path in (broken / "onnx").glob("*int8*"):
        path.unlink()
    (broken / "generation_config.json").unlink()
    lines = said(capsys, str(broken)).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[-2:]] == ["2 of 3 here", "not here"]
    assert any(line.startswith("options     unknown until") for line in lines)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: tr\nlicense: mit\n---\nwords", "mit"),
        ("---\ntags:\n  - a\nlicense: apache-2.0 \n---\n", "apache-2.0"),
        ("---\nlanguage: tr\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_is_that_of_the_cards_front_matter(card, licence, broken, capsys):
    (broken / "README.md").write_text(card)
    assert json.loads(said(capsys, str(broken), "--json"))["licence"] == licence


@pytest.mark.exporter
def test_a_checkpoint_is_told_about_and_not_exported(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path))
    source = GOLDEN / "tiny" / "checkpoint"
    found = json.loads(said(capsys, str(source), "--variant", "fp32", "--json"))
    assert found["kind"] == "checkpoint"
    assert (found["variant"], found["exported"]) == ("fp32", [])
    weights = (source / "model.safetensors").stat().st_size
    assert found["size"] == pytest.approx(2 * weights, rel=0.1)  # they are bfloat16
    assert not Path(found["folder"]).exists()


def test_an_unknown_variant_is_wrong_usage(capsys):
    assert main(["info", "--variant", "int3"]) == 2
    assert "variant='int3'" in capsys.readouterr().err
