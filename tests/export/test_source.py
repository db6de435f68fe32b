"""A checkpoint on disk: what is read, and what is refused with what was found and what was expected."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from diffutron_ort.errors import CheckpointError, OptionError
from diffutron_ort_export.checkpoint import weights
from diffutron_ort_export.checkpoint.source import open_source
from tests.export.conftest import TINY, edit_json, edit_tensors

TABLE = "model.embeddings.tok_embeddings.weight"
QKV = "model.layers.3.attn.Wqkv.weight"
WEIGHTS = "model.safetensors"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_source(str(folder))


def whole(folder: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a checkpoint, read at once."""
    found = open_source(str(folder)).weights
    return {name: found.rows(name) for name in found.shapes}


def equal(one: dict[str, NDArray[np.float32]], other: dict[str, NDArray[np.float32]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_bfloat16_becomes_float32_without_a_loss(checkpoint: Path) -> None:
    source, stored = open_source(str(checkpoint)), load_file(checkpoint / WEIGHTS)
    assert (source.name, source.revision, source.adapter) == ("checkpoint", None, None)
    assert source.weights.shapes == {name: tensor.shape for name, tensor in stored.items()}
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype(bfloat16)}
    found = whole(checkpoint)
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}
    assert equal(found, {name: tensor.astype(np.float32) for name, tensor in stored.items()})


@pytest.mark.parametrize("dtypes", [[np.float16], [np.float32], [bfloat16, np.float16, np.float32]], ids=str)
def test_other_dtypes(checkpoint: Path, dtypes: list[type]) -> None:
    edit_tensors(
        checkpoint / WEIGHTS,
        lambda t: t.update({n: t[n].astype(dtypes[i % len(dtypes)]) for i, n in enumerate(sorted(t))}),
    )
    stored = load_file(checkpoint / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype(dtype) for dtype in dtypes}
    assert equal(whole(checkpoint), {name: tensor.astype(np.float32) for name, tensor in stored.items()})


@pytest.mark.parametrize(("first", "end"), [(0, 1), (3, 70), (500, None), (7, 7)])
def test_some_rows_are_those_of_the_whole(checkpoint: Path, first: int, end: int | None) -> None:
    found = open_source(str(checkpoint)).weights
    for name in (TABLE, "decoder.bias"):
        assert np.array_equal(found.rows(name, first, end), found.rows(name)[first:end])


@pytest.mark.parametrize("most", [1, 100, 256, 512, 1000])
def test_chunks_are_the_rows_in_order(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(weights, "MOST_ROWS", most)
    found = open_source(str(checkpoint)).weights
    for name in (TABLE, "decoder.bias"):
        chunks = list(found.chunks(name))
        assert len(chunks) == -(-512 // most)
        assert max(map(len, chunks)) <= most
        assert np.array_equal(np.concatenate(chunks), found.rows(name))


def test_a_file_that_has_become_shorter(checkpoint: Path) -> None:
    found = open_source(str(checkpoint)).weights
    os.truncate(checkpoint / WEIGHTS, 20_000)
    with pytest.raises(CheckpointError, match="model.safetensors of checkpoint is damaged: .* ends early"):
        [found.rows(name) for name in found.shapes]


def test_a_file_that_has_gone(checkpoint: Path) -> None:
    found = open_source(str(checkpoint)).weights
    (checkpoint / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="model.safetensors of checkpoint is damaged: .*No such file"):
        found.rows(TABLE)


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
    expected = whole(checkpoint)
    shard(checkpoint)
    assert equal(whole(checkpoint), expected)


def test_a_missing_shard(checkpoint: Path) -> None:
    shard(checkpoint)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    refused(checkpoint, "names 'model-00002-of-00002.safetensors', which is not a file in the same folder")


def test_an_index_that_leaves_its_folder(checkpoint: Path) -> None:
    shard(checkpoint)
    shutil.copytree(TINY / "checkpoint", checkpoint.parent / "other")
    edit_json(checkpoint / f"{WEIGHTS}.index.json", weight_map={TABLE: "../other/model.safetensors"})
    refused(checkpoint, "names '../other/model.safetensors', which is not a file in the same folder")


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
    refused(checkpoint, "checkpoint' has no config.json; give a folder in the Hugging Face layout")


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("[]", "holds a list, not an object")])
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
    refused(checkpoint, "head is missing: found no head.dense.weight, head.norm.weight, decoder.bias, expected head")


def test_half_a_head(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.pop("decoder.bias"))
    refused(checkpoint, "head is missing: found no decoder.bias, expected head.dense.weight")


def test_a_missing_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.pop(QKV))
    refused(checkpoint, f"found no {QKV}, expected 47 tensors")


def test_an_extra_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"model.layers.0.attn_norm.weight": np.ones(64, np.float32)}))
    refused(
        checkpoint,
        "found model.layers.0.attn_norm.weight, which a ModernBertForMaskedLM with this config.json does not have",
    )


def test_a_wrong_shape(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({QKV: np.ones((128, 64), np.float32)}))
    refused(checkpoint, rf"wrong shapes: {QKV} is \[128, 64\], expected \[192, 64\]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite(checkpoint: Path, value: float) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t[QKV].flat.__setitem__(17, value))
    refused(checkpoint, f"{QKV} holds NaN or infinity, expected finite numbers")


def test_a_quantized_tensor(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({QKV: t[QKV].astype(np.int8)}))
    refused(checkpoint, f"{QKV} is I8, expected BF16, F16, F32")


def test_a_stored_copy_of_the_tied_table(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"decoder.weight": t[TABLE]}))
    assert "decoder.weight" not in open_source(str(checkpoint)).weights.shapes


def test_an_untied_table(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"decoder.weight": t[TABLE] * bfloat16(1.01)}))
    refused(checkpoint, f"decoder.weight differs from {TABLE}, expected a tied table")


@pytest.mark.parametrize("shape", [(), (1,), (512,), (512, 32), (100, 64), (513, 64)])
def test_a_second_table_of_another_shape(checkpoint: Path, shape: tuple[int, ...]) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({"decoder.weight": np.ones(shape, np.float32)}))
    refused(checkpoint, f"decoder.weight differs from {TABLE}, expected a tied table")


def test_a_second_table_that_differs_in_its_last_chunk(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(tensors: dict) -> None:
        tensors["decoder.weight"] = tensors[TABLE].copy()
        tensors["decoder.weight"][-1, -1] += 1

    monkeypatch.setattr(weights, "MOST_ROWS", 100)
    edit_tensors(checkpoint / WEIGHTS, copy)
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


PREFIXES = [
    "_orig_mod.",
    "module.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "net.model.",
    "_fsdp_wrapped_module.",
]


def rename(folder: Path, change) -> None:
    edit_tensors(folder / WEIGHTS, lambda t: [t.update({change(n): t.pop(n)}) for n in list(t)])


def same(folder: Path) -> None:
    assert equal(whole(folder), whole(TINY / "checkpoint"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_put_before_all_names(checkpoint: Path, prefix: str) -> None:
    rename(checkpoint, lambda name: prefix + name)
    same(checkpoint)


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_names_without_model(checkpoint: Path, prefix: str) -> None:
    rename(checkpoint, lambda name: prefix + name.removeprefix("model."))
    same(checkpoint)


def test_wrappers_inside_of_names(checkpoint: Path) -> None:
    rename(
        checkpoint,
        lambda n: n.replace("layers.3.", "layers.3._checkpoint_wrapped_module.").replace("model.", "model._orig_mod."),
    )
    same(checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("model.", "model.module."),
        lambda name: name.replace(".attn.", ".module.attn."),
        lambda name: name if name.startswith("model.") else f"module.{name}",
    ],
    ids=["encoder", "layers", "head"],
)
def test_parts_that_data_parallelism_wraps(checkpoint: Path, change) -> None:
    rename(checkpoint, change)
    same(checkpoint)


def test_a_tensor_beside_those_of_a_wrapper_is_named(checkpoint: Path) -> None:
    """As torch's AveragedModel counts."""
    rename(checkpoint, lambda name: f"net.{name}")
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update(n_averaged=np.float32(3)))
    refused(checkpoint, "found n_averaged, which a ModernBertForMaskedLM with this config.json does not have")


def test_an_encoder_of_another_name_is_named(checkpoint: Path) -> None:
    rename(checkpoint, lambda name: name.replace("model.", "bert."))
    refused(checkpoint, "found no model.embeddings.norm.weight, .* but bert.embeddings.norm.weight, ")


def test_shards_whose_names_have_a_prefix(checkpoint: Path) -> None:
    rename(checkpoint, lambda name: "module." + name)
    shard(checkpoint)
    same(checkpoint)


def test_two_tensors_of_one_name(checkpoint: Path) -> None:
    edit_tensors(checkpoint / WEIGHTS, lambda t: t.update({f"_orig_mod.{QKV}": t[QKV] * 2}))
    refused(checkpoint, "two tensors have the same name")


def test_a_common_prefix_that_is_of_another_network(checkpoint: Path) -> None:
    rename(checkpoint, lambda name: f"bert.encoder.{name.replace('embeddings', 'words').replace('dense', 'sparse')}")
    refused(checkpoint, r"head is missing: .*; all names begin with 'bert.encoder'")


@pytest.mark.parametrize("multiple", [64, 128, 1024])
@pytest.mark.parametrize("told", [True, False])
def test_a_table_padded_for_a_gpu(checkpoint: Path, multiple: int, told: bool) -> None:
    """512 pieces, and one more: the rows beyond are left out, so that they can never be predicted."""
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 512, "content": "kuşlar", "special": False})
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    rows = -(-513 // multiple) * multiple

    def pad(tensors: dict) -> None:
        for name in (TABLE, "decoder.bias"):
            beyond = np.full((rows - 512, *tensors[name].shape[1:]), 9.0, tensors[name].dtype)
            tensors[name] = np.concatenate([tensors[name], beyond])

    edit_tensors(checkpoint / WEIGHTS, pad)
    edit_json(checkpoint / "config.json", vocab_size=rows if told else 513)
    source = open_source(str(checkpoint))
    assert source.shape.vocab_size == source.config["vocab_size"] == 513
    for name in (TABLE, "decoder.bias"):
        read = source.weights.rows(name)
        assert read.shape == source.weights.shapes[name] == (513, 64)[: read.ndim]
        assert (read[512] == 9).all()
        assert sum(map(len, source.weights.chunks(name))) == 513


def test_a_table_with_more_rows_than_padding_is_another_s(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", vocab_size=2048)
    refused(checkpoint, "tokenizer.json has 512 tokens and config.json says vocab_size 2048")


def header(length: int, said: object) -> bytes:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return (length or len(text)).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header(2**60, {}),
        header(2**24 + 1, b" " * (2**24 + 1)),
        header(0, b"[" * 100_000),
        header(0, b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {}}'),
        header(0, {"a": None}),
        header(0, {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        header(0, {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}),
        header(0, {"a": {"dtype": 7, "shape": [], "data_offsets": [0, 4]}}),
        header(0, {"\u001b[31m": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        header(0, {f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}),
    ],
    ids=[
        "longer than the file",
        "too long",
        "too deep",
        "a key twice",
        "no entry",
        "a negative size",
        "too many numbers",
        "a dtype that is no text",
        "control characters",
        "too many tensors",
    ],
)
def test_hostile_headers(checkpoint: Path, content: bytes) -> None:
    (checkpoint / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        open_source(str(checkpoint))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64"},
        {"dtype": "NO_SUCH"},
        {"data_offsets": [0, 4]},
        {"data_offsets": [2**62, 2**63]},
        {"data_offsets": [10, 0]},
        {"data_offsets": "x"},
        {"shape": [2**40, 64]},
    ],
)
def test_hostile_entries_of_a_header(checkpoint: Path, entry: dict) -> None:
    content = (checkpoint / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    said = json.loads(content[8 : 8 + length])
    said[QKV] |= entry
    (checkpoint / WEIGHTS).write_bytes(header(0, said) + content[8 + length :])
    refused(checkpoint, "checkpoint|expected")


def test_a_sparse_file_of_a_terabyte_costs_no_memory(checkpoint: Path) -> None:
    edit_json(checkpoint / "config.json", hidden_size=65536, intermediate_size=262144)
    from diffutron_ort_export.checkpoint.architecture import read_shape
    from diffutron_ort_export.checkpoint.layout import tensor_shapes

    shapes = tensor_shapes(read_shape(json.loads((checkpoint / "config.json").read_text())))
    said, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        said[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    with (checkpoint / WEIGHTS).open("wb") as file:
        file.write(header(0, said))
        file.truncate(file.tell() + end)
    refused(checkpoint, "the weights are .* numbers, expected at most")


def test_a_file_in_place_of_a_folder(checkpoint: Path) -> None:
    refused(checkpoint / WEIGHTS, "is not a directory; give the directory that holds it")


@pytest.mark.parametrize("name", ["a" * 5000, "a/" + "b" * 5000, "\0", "a/b\0", "", "../..x/y/z", "a/b/c"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(CheckpointError):
        open_source(name)


@pytest.mark.parametrize("revision", ["", "../../x", "a b", "-x", "\x1b", "x" * 500, "refs/../x"])
def test_revisions_that_are_none(revision: str) -> None:
    with pytest.raises(OptionError, match="must be a branch, a tag or a commit"):
        open_source("diffutron/Nothing", revision=revision)


def test_a_private_path_and_code_are_not_copied(checkpoint: Path) -> None:
    edit_json(
        checkpoint / "config.json",
        _name_or_path="/home/somebody/secret",
        auto_map={"AutoModel": "evil.Model"},
        custom_pipelines={"x": {}},
        num_labels=10**9,
        classifier_pooling="max",
        initializer_cutoff_factor=2,
        pad_token_id=None,
    )
    config = json.loads((checkpoint / "config.json").read_text())
    del config["eos_token_id"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    found = open_source(str(checkpoint)).config
    assert not {"_name_or_path", "auto_map", "custom_pipelines", "num_labels", "classifier_pooling"} & found.keys()
    assert (found["pad_token_id"], found["eos_token_id"], found["initializer_cutoff_factor"]) == (0, 1, 2.0)


@pytest.mark.skipif(os.name == "nt", reason="such names are refused there")
def test_a_folder_whose_name_has_control_characters(checkpoint: Path) -> None:
    assert open_source(str(checkpoint.rename(checkpoint.with_name("a\x1b[31m\nb")))).name == "a [31m b"


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_folder_whose_name_is_no_text(checkpoint: Path) -> None:
    renamed = checkpoint.rename(os.fsdecode(os.fsencode(checkpoint.parent) + b"/kur\xe7uk"))
    assert open_source(str(renamed)).name == "kur\N{REPLACEMENT CHARACTER}uk"
    assert equal(whole(renamed), whole(TINY / "checkpoint"))
