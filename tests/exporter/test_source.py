"""A checkpoint on disk: what is read, and what is refused with what was found and what was expected."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffutron_ort.errors import CheckpointError, OptionError
from diffutron_ort_export.network import build
from diffutron_ort_export.source import open_source
from tests.exporter.conftest import TINY, edit_json, edit_tensors

TABLE = "model.embeddings.tok_embeddings.weight"
QKV = "model.layers.3.attn.Wqkv.weight"
WEIGHTS = "model.safetensors"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_source(str(folder))


def test_bfloat16_becomes_float32_without_a_loss(checkpoint: Path) -> None:
    source, stored = open_source(str(checkpoint)), load_file(checkpoint / WEIGHTS)
    assert (source.name, source.revision, source.adapter) == ("checkpoint", None, None)
    assert source.tensors.keys() == stored.keys()
    for name, tensor in stored.items():
        assert source.tensors[name].dtype == torch.float32
        assert torch.equal(source.tensors[name], tensor.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes(checkpoint: Path, dtype: torch.dtype) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({n: x.to(dtype) for n, x in t.items()}))
    source, golden = open_source(str(checkpoint)), np.load(TINY / "logits.npz")
    ids = torch.from_numpy(golden["ids_2"])[None]
    none = torch.zeros(source.shape.layers, 1, 0, source.shape.hidden_size)
    ones = torch.ones(1)
    rows = torch.arange(ids.shape[1])
    found = build(source.shape, source.tensors)(ids, rows[None], rows[None, :0], none, none, rows, ids, ones, ones)
    np.testing.assert_allclose(found.logits, golden["logits_2"], atol=1e-4 if dtype == torch.float32 else 0.05)


def shard(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    places = {name: file for file, part in halves.items() for name in part}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_are_the_same_as_one_file(checkpoint: Path) -> None:
    whole = open_source(str(checkpoint)).tensors
    shard(checkpoint)
    parts = open_source(str(checkpoint)).tensors
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_missing_shard(checkpoint: Path) -> None:
    shard(checkpoint)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    refused(checkpoint, "names 'model-00002-of-00002.safetensors', which is no file beside it")


def test_an_index_that_leaves_its_folder(checkpoint: Path) -> None:
    shard(checkpoint)
    shutil.copytree(TINY / "checkpoint", checkpoint.parent / "other")
    edit_json(checkpoint / f"{WEIGHTS}.index.json", weight_map={TABLE: "../other/model.safetensors"})
    refused(checkpoint, "names '../other/model.safetensors', which is no file beside it")


def test_an_index_that_differs_from_its_shards(checkpoint: Path) -> None:
    shard(checkpoint)
    index = checkpoint / f"{WEIGHTS}.index.json"
    places = json.loads(index.read_text())["weight_map"]
    places["decoder.extra"] = "model-00001-of-00002.safetensors"
    edit_json(index, weight_map=places)
    refused(checkpoint, "and its shards differ in decoder.extra")


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b"\xff" * 64, lambda b: b + b"more"])
def test_damaged_weights(checkpoint: Path, damage) -> None:
    path = checkpoint / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    refused(checkpoint, "model.safetensors of checkpoint is damaged: .*take an unaltered copy")


def test_a_pickle_only(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")
    refused(checkpoint, "pytorch_model.bin, which are pickles and never opened; expected model.safetensors")


def test_no_weights_at_all(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).unlink()
    refused(checkpoint, "no weights at all; expected model.safetensors or model.safetensors.index.json")


def test_no_config(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    refused(checkpoint, "checkpoint has no config.json; expected a checkpoint in the Hugging Face")


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "holds a list, not an object")])
def test_a_config_that_is_no_object(checkpoint: Path, content: str, message: str) -> None:
    (checkpoint / "config.json").write_text(content)
    refused(checkpoint, f"config.json of checkpoint {message}")


def test_another_model_type(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", model_type="llama")
    refused(checkpoint, "model_type is 'llama', expected 'modernbert'")


def test_no_head(checkpoint: Path) -> None:
    """dllm's merge_peft_adapter.py loads the base with AutoModel, which drops the head; transformers makes one up."""

    def strip(tensors: dict) -> None:
        headless = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        tensors.clear()
        tensors.update(headless)

    edit_tensors(checkpoint / WEIGHTS, strip)
    refused(checkpoint, "head is not there: found no head.dense.weight, head.norm.weight, decoder.bias, expected head")


def test_half_a_head(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.pop("decoder.bias"))
    refused(checkpoint, "head is not there: found no decoder.bias, expected head.dense.weight")


def test_a_missing_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.pop(QKV))
    refused(checkpoint, f"found no {QKV}, expected 47 tensors")


def test_an_extra_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"model.layers.0.attn_norm.weight": torch.ones(64)}))
    refused(checkpoint, "found model.layers.0.attn_norm.weight, which a ModernBertForMaskedLM of this config.json has")


def test_a_wrong_shape(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({QKV: torch.ones(128, 64)}))
    refused(checkpoint, rf"wrong shapes: {QKV} is \[128, 64\], expected \[192, 64\]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite(checkpoint: Path, value: float) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t[QKV].view(-1)[17:18].fill_(value))
    refused(checkpoint, f"{QKV} holds NaN or infinity, expected finite numbers")


def test_a_quantized_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({QKV: t[QKV].to(torch.int8)}))
    refused(checkpoint, f"{QKV} is I8, expected BF16, F16, F32")


def test_a_stored_copy_of_the_tied_table(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"decoder.weight": t[TABLE].clone()}))
    assert "decoder.weight" not in open_source(str(checkpoint)).tensors


def test_an_untied_table(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"decoder.weight": t[TABLE] * 1.01}))
    refused(checkpoint, f"decoder.weight differs from {TABLE}, expected a tied table")


def test_an_untied_table_that_is_not_there(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", tie_word_embeddings=False)
    refused(checkpoint, "tie_word_embeddings is False, and there is no decoder.weight")


def test_a_tokenizer_of_another_size(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", vocab_size=513)
    refused(checkpoint, "tokenizer.json has 512 tokens and config.json says vocab_size 513")


def test_neither_directory_nor_hub_id() -> None:
    with pytest.raises(CheckpointError, match=r"'no such place' is neither a directory nor a hub id"):
        open_source("no such place")


def test_a_revision_of_a_directory(checkpoint: Path) -> None:
    with pytest.raises(OptionError, match=r"revision 'main' of .* a directory has no revisions"):
        open_source(str(checkpoint), revision="main")
