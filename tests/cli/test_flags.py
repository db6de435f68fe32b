"""The flags of the model and of the generation."""

import dataclasses
import json

import pytest

from diffutron_ort import Diffutron, GenerationConfig
from diffutron_ort.cli.fill import DEFAULTS
from diffutron_ort.cli.main import main
from diffutron_ort.model import FILL_IGNORES


@pytest.mark.parametrize(("command", "missing"), [("generate", ()), ("fill", FILL_IGNORES)])
def test_every_option_is_a_flag_with_its_help_and_default(command, missing, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # so that no word is broken
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for spec in dataclasses.fields(GenerationConfig):
        flag = f"--{spec.name.replace('_', '-')}"
        if spec.name in missing:
            assert f"{flag} " not in text
        else:
            assert spec.metadata["help"] in text, spec.name
            assert f"{flag} " in text or f"{flag}, " in text, spec.name
            default = {True: "on", False: "off"}.get(spec.default, spec.default) if spec.type is bool else spec.default
            default = DEFAULTS.get(spec.name, default) if command == "fill" else default
            assert default == () or f"{spec.metadata['help']} (default: {default})" in text


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


def test_no_spin_reaches_onnxruntime(monkeypatch):
    asked = []
    real = Diffutron.from_pretrained
    monkeypatch.setattr(Diffutron, "from_pretrained", lambda *a, **k: asked.append(k["spin"]) or real(*a, **k))
    for flags in ([], ["--no-spin"]):
        assert main(["generate", "x", "--steps", "1", *flags]) == 0
    assert asked == [True, False]
