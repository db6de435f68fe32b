"""LoRA: the merge by hand, and what is refused by name."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from diffutron_ort.errors import CheckpointError
from diffutron_ort_export.checkpoint import time_limit, weights
from diffutron_ort_export.checkpoint.adapter import merge_adapter
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.checkpoint.weights import Weights
from tests.export.conftest import TINY, edit_json, edit_tensors

BASE = open_source(str(TINY / "checkpoint")).weights
QKV = "model.layers.3.attn.Wqkv"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a process takes a while to begin."""
    monkeypatch.setattr(time_limit, "SECONDS", 120.0)


def factor(letter: str) -> str:
    return f"base_model.model.{QKV}.lora_{letter}.weight"


def assert_equal(found: Weights, expected: Weights) -> None:
    assert found.shapes == expected.shapes
    assert all(np.array_equal(found.rows(name), expected.rows(name)) for name in expected.shapes)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 8), (True, 16 / 8**0.5)])
def test_merge(adapter: Path, rslora: bool, scale: float) -> None:
    edit_json(adapter / CONFIG, use_rslora=rslora)
    factors, merged = load_file(adapter / WEIGHTS), merge_adapter(BASE, adapter)
    product = factors[factor("B")] @ factors[factor("A")]
    name = f"{QKV}.weight"
    expected = BASE.rows(name) + scale * product
    np.testing.assert_allclose(merged.rows(name), expected, rtol=1.3e-6, atol=1e-5)
    np.testing.assert_allclose(merged.rows(name, 5, 20), expected[5:20], rtol=1.3e-6, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(merged.chunks(name))), expected, rtol=1.3e-6, atol=1e-5)
    assert np.abs(expected - BASE.rows(name)).max() > 1e-3
    assert merged.shapes == BASE.shapes
    assert np.array_equal(merged.rows("head.dense.weight"), BASE.rows("head.dense.weight"))


def test_chunks_of_a_matrix_that_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    merged, name = merge_adapter(BASE, TINY / "adapter"), f"{QKV}.weight"
    expected = merged.rows(name)
    monkeypatch.setattr(weights, "MOST_ROWS", 50)
    chunks = list(merged.chunks(name))
    assert [len(chunk) for chunk in chunks] == [50, 50, 50, 42]
    np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=1.3e-6, atol=1e-5)


def test_a_pattern_names_the_targets_too(adapter: Path) -> None:
    edit_json(adapter / CONFIG, target_modules=r"model\.layers\.\d+\..*(Wqkv|Wo|Wi)")
    assert_equal(merge_adapter(BASE, adapter), merge_adapter(BASE, TINY / "adapter"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_dora", True),
        ("use_qalora", True),
        ("use_bdlora", True),
        ("lora_bias", True),
        ("bias", "all"),
        ("fan_in_fan_out", True),
        ("rank_pattern", {"Wo": 4}),
        ("alpha_pattern", {"Wo": 4}),
        ("modules_to_save", ["head"]),
        ("trainable_token_indices", [4]),
        ("target_parameters", ["weight"]),
        ("layer_replication", [[0, 3], [2, 5]]),
        ("layers_to_transform", [1]),
        ("init_lora_weights", "pissa"),
        ("loftq_config", {"loftq_bits": 4}),
        ("a_setting_to_come", True),
    ],
)
def test_what_is_not_supported_is_refused_by_name(adapter: Path, setting: str, value: object) -> None:
    edit_json(adapter / CONFIG, **{setting: value})
    with pytest.raises(CheckpointError, match=rf"adapter: {setting}=.* is not supported, only plain LoRA is"):
        merge_adapter(BASE, adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', and only 'LORA' can be merged"),
        ({"peft_type": None}, "peft_type is None"),
        ({"r": 0}, "r is 0, expected an integer from 1 to 65536"),
        ({"lora_alpha": "big"}, "lora_alpha is 'big', expected a number from 1e-06 to 1e"),
        ({"r": 4}, r"lora_A.weight is \[8, \d+\], expected rank 4"),
        ({"target_modules": ["Wqkv", "Wo", "Wi", "dense"]}, "no factors for head.dense.weight"),
        ({"target_modules": ["Wqkv", "Wo", "Wi", "lm_head"]}, "no factors for .*lm_head"),
        ({"target_modules": None}, "target_modules is None"),
    ],
)
def test_a_config_that_is_refused(adapter: Path, change: dict, message: str) -> None:
    edit_json(adapter / CONFIG, **change)
    with pytest.raises(CheckpointError, match=message):
        merge_adapter(BASE, adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(factor("A")), f"{QKV}.weight has only one of its two factors"),
        (lambda t: [t.pop(factor("A")), t.pop(factor("B"))], f"no factors for {QKV}.weight"),
        (lambda t: t.update({factor("B"): np.ones((128, 8), np.float32)}), r"is \[128, 64\], expected \[192, 64\]"),
        (lambda t: t[factor("B")].__setitem__((3, 3), np.nan), "lora_B.weight holds NaN or infinity"),
        (
            lambda t: t.update({"base_model.model.decoder.weight": np.ones(2, np.float32)}),
            "found .*decoder.weight, expected lora_A",
        ),
        (
            lambda t: t.update({n.replace("layers.3", "layers.30"): t[n] for n in (factor("A"), factor("B"))}),
            "the base has no model.layers.30.attn.Wqkv.weight",
        ),
    ],
)
def test_tensors_that_are_refused(adapter: Path, change, message: str) -> None:
    edit_tensors(adapter / WEIGHTS, change)
    with pytest.raises(CheckpointError, match=message):
        merge_adapter(BASE, adapter)


def test_a_pickle_only(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(
        CheckpointError, match=r"adapter_model.bin, which is a pickle and never opened; expected adapter_mo"
    ):
        merge_adapter(BASE, adapter)


def test_no_weights(adapter: Path) -> None:
    (adapter / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"adapter adapter has no weights; expected adapter_model.safetensors"):
        merge_adapter(BASE, adapter)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a directory; give the folder that holds adapter_config.json"):
        merge_adapter(BASE, tmp_path / "nowhere")


def test_the_settings_of_the_tiny_adapter_are_all_known() -> None:
    """A config as peft 0.21 writes it, with all its settings at rest, is accepted."""
    assert len(json.loads((TINY / "adapter" / CONFIG).read_text())) > 30
    assert merge_adapter(BASE, TINY / "adapter").shapes == BASE.shapes


def test_a_pattern_that_never_ends(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "SECONDS", 2.0)
    edit_json(adapter / CONFIG, target_modules=r"((\w|\.)+)+!")
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="the pattern .* takes longer than 2 seconds"):
        merge_adapter(BASE, adapter)
    assert time.monotonic() - began < 300  # on a busy machine


@pytest.mark.parametrize("pattern", ["(", "*", "[a", "(?P<x", "a{99999999999}", "\\"])
def test_a_pattern_that_is_none(adapter: Path, pattern: str) -> None:
    edit_json(adapter / CONFIG, target_modules=pattern)
    with pytest.raises(CheckpointError, match="adapter: the pattern .*fails"):
        merge_adapter(BASE, adapter)


@pytest.mark.parametrize("excluded", [["head.dense"], ["dense"], r".*head.*", r"^head\.dense$"])
def test_modules_that_are_excluded(adapter: Path, excluded: object) -> None:
    edit_json(adapter / CONFIG, target_modules=["Wqkv", "Wo", "Wi", "dense"], exclude_modules=excluded)
    assert_equal(merge_adapter(BASE, adapter), merge_adapter(BASE, TINY / "adapter"))


def test_factors_of_what_is_excluded(adapter: Path) -> None:
    edit_json(adapter / CONFIG, exclude_modules=["Wi"])
    with pytest.raises(CheckpointError, match=r"there are factors for model.layers.0.mlp.Wi.weight, .* leave out"):
        merge_adapter(BASE, adapter)


@pytest.mark.parametrize("alpha", [1e308, 10**400, 0, -16, True, "16"])
def test_an_alpha_that_is_none(adapter: Path, alpha: object) -> None:
    edit_json(adapter / CONFIG, lora_alpha=alpha)
    with pytest.raises(CheckpointError, match="lora_alpha is .*, expected a number from 1e-06 to"):
        merge_adapter(BASE, adapter)


def test_factors_whose_product_is_infinite(adapter: Path) -> None:
    edit_tensors(adapter / WEIGHTS, lambda t: [t[factor("A")].fill(1e30), t[factor("B")].fill(1e30)])
    with pytest.raises(CheckpointError, match=f"adapter: {QKV}.weight is not finite after the merge"):
        merge_adapter(BASE, adapter)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "_fsdp_wrapped_module."])
def test_an_adapter_of_a_wrapped_model(adapter: Path, prefix: str) -> None:
    def wrap(tensors: dict) -> None:
        for name in list(tensors):
            tensors[name.replace("base_model.model.", f"base_model.model.{prefix}")] = tensors.pop(name)

    edit_tensors(adapter / WEIGHTS, wrap)
    assert_equal(merge_adapter(BASE, adapter), merge_adapter(BASE, TINY / "adapter"))
