"""Odd values in every setting that is read of a checkpoint: what comes of each is a number, or an error of ours."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffutron_ort.config import OPTION_NAMES
from diffutron_ort.errors import CheckpointError, OptionError
from diffutron_ort_export.checkpoint.adapter import merge_adapter, read_config
from diffutron_ort_export.checkpoint.architecture import COPIED, DEFAULTS, MOST, portable_config, read_shape
from diffutron_ort_export.checkpoint.generation_config import generation_defaults
from diffutron_ort_export.checkpoint.source import GENERATION, open_source
from diffutron_ort_export.checkpoint.tokenizer import KNOWN, OLDER, SETTINGS, SPECIAL_IDS, TOKENIZER, read_tokenizer
from diffutron_ort_export.checkpoint.weights import INDEX, find_tensors, read_json
from tests.export.conftest import TINY

DEEP = "[" * 5000 + "]" * 5000
ODD = (
    *("null", "true", "false", "-1", "0", "1", "2.5", "1e308", "-1e308", "5e-324", "1e999", "NaN", "-Infinity"),
    *("1" + "0" * 400, "1" + "0" * 5000, '""', '"x"', '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"yes"'),
    *("[]", "{}", "[[]]", "[null]", "[1, 2]", '["x"]', '{"": {}}', '{"x": [{"y": 0}]}', DEEP),
    json.dumps("x" * 1_000_000),
)
CHECKPOINT, ADAPTER = TINY / "checkpoint", TINY / "adapter"
CONFIG = json.loads((CHECKPOINT / "config.json").read_text())
IDS = tuple(f"{role}_token_id" for role in SPECIAL_IDS)
ROPE = ("rope_parameters", "layer_types", "head_dim", "sliding_window", "tie_word_embeddings", "model_type")
FOREIGN = ("num_labels", "id2label", "auto_map", "_name_or_path", "chat_template", "custom_pipelines", "dtype")


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < 30  # on a slow machine; a usual one takes a tenth


def with_value(path: Path, name: str, literal: str) -> None:
    """Writes a literal, which may be no JSON, as the value of a key."""
    value = json.loads(path.read_text()) if path.exists() else {}
    others = ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items() if k != name)
    path.write_text(f"{{{others}{', ' if others else ''}{json.dumps(name)}: {literal}}}")


def check_message(error: Exception, file: str) -> None:
    """A message names the file, is of one line without control characters, and is not long."""
    assert file in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 1000


@contextlib.contextmanager
def refused_or_not(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        check_message(error, path.stem.partition("_")[0])


def each(path: Path, name: str, read: Callable[[], Any], literals: Sequence[str] = ODD) -> int:
    """Reads a file with each of the odd values in a key; returns how many were taken."""
    content, taken = path.read_text() if path.exists() else None, 0
    for literal in literals:
        with_value(path, name, literal)
        with refused_or_not(path):
            read()
            taken += 1
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
    return taken


def read_config_json(folder: Path) -> dict[str, Any]:
    """Reads config.json alone, and returns the bundle's."""
    config = read_json(folder, "config.json").values
    return portable_config(config, read_shape(config))


def transformers_config(folder: Path) -> object:
    """Reads config.json alone, up to what transformers makes of the bundle's."""
    from transformers import ModernBertConfig

    return ModernBertConfig(**read_config_json(folder))


readers = pytest.mark.parametrize(
    "reader", [read_config_json, pytest.param(transformers_config, marks=pytest.mark.torch)]
)


@readers
@pytest.mark.parametrize("name", sorted({*DEFAULTS, *MOST, *COPIED, *ROPE, *FOREIGN}))
def test_config(checkpoint: Path, name: str, reader: Callable[[Path], object]) -> None:
    assert each(checkpoint / "config.json", name, lambda: reader(checkpoint)) < len(ODD) - 3


@readers
@pytest.mark.parametrize("inner", ["rope_type", "rope_theta", "type", "factor"])
def test_rotary_settings(checkpoint: Path, inner: str, reader: Callable[[Path], object]) -> None:
    literals = [f'{{"full_attention": {{"{inner}": {literal}}}}}' for literal in ODD]
    assert each(checkpoint / "config.json", "rope_parameters", lambda: reader(checkpoint), literals) == 1  # null


@pytest.mark.parametrize("name", IDS)
def test_special_ids(checkpoint: Path, name: str) -> None:
    def read() -> None:
        read_tokenizer(checkpoint, read_json(checkpoint, "config.json").values)

    assert (
        each(checkpoint / "config.json", name, read) < 5
    )  # null, a list with the id in it, and the id if it is 0 or 1


@pytest.mark.parametrize("name", sorted({*KNOWN, *FOREIGN, "max_length", "stride", "special_tokens_map_file"}))
def test_tokenizer_config(checkpoint: Path, name: str) -> None:
    each(checkpoint / SETTINGS, name, lambda: read_tokenizer(checkpoint, CONFIG))


@pytest.mark.parametrize("name", [f"{role}_token" for role in SPECIAL_IDS])
def test_special_tokens_map(checkpoint: Path, name: str) -> None:
    each(checkpoint / OLDER, name, lambda: read_tokenizer(checkpoint, CONFIG))


@pytest.mark.parametrize(
    "name",
    [
        "version",
        "truncation",
        "padding",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
        "model",
    ],
)
def test_tokenizer(checkpoint: Path, name: str) -> None:
    each(checkpoint / TOKENIZER, name, lambda: read_tokenizer(checkpoint, CONFIG))


@pytest.mark.parametrize("name", sorted({*OPTION_NAMES, "do_sample", "eos_token_id", "max_length"}))
def test_generation_config(checkpoint: Path, name: str) -> None:
    source = open_source(str(checkpoint))

    def read() -> None:
        try:
            found = generation_defaults(replace(source, generation=read_json(checkpoint, GENERATION).values), 256)
            json.dumps(found, allow_nan=False)
        except OptionError as error:
            check_message(error, GENERATION)

    (checkpoint / GENERATION).write_text("{}")
    each(checkpoint / GENERATION, name, read)


@pytest.mark.parametrize(
    "name",
    [
        *("peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "bias"),
        *(
            "init_lora_weights",
            "use_dora",
            "rank_pattern",
            "modules_to_save",
            "lora_dropout",
            "task_type",
            "auto_mapping",
        ),
    ],
)
def test_adapter_config(adapter: Path, name: str) -> None:
    each(adapter / "adapter_config.json", name, lambda: read_config(adapter))


@pytest.mark.parametrize("name", ["weight_map", "metadata"])
def test_index(checkpoint: Path, name: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00001.safetensors")
    each(checkpoint / INDEX, name, lambda: find_tensors(checkpoint))


@pytest.mark.parametrize("name", ["config.json", TOKENIZER, SETTINGS, OLDER, GENERATION, "model.safetensors", INDEX])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "huge", "twice", "nowhere"])
def test_files_that_are_none(checkpoint: Path, name: str, kind: str) -> None:
    path = checkpoint / name
    if name == INDEX:
        (checkpoint / "model.safetensors").unlink()
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**36)
    elif kind == "twice":
        path.write_text('{"a": 1, "a": 2}')
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else checkpoint / "nowhere")
    with pytest.raises(CheckpointError, match=name.partition(".")[0]):
        open_source(str(checkpoint))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "huge"])
def test_files_of_an_adapter_that_are_none(adapter: Path, name: str, kind: str) -> None:
    path = adapter / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**36)
    with pytest.raises(CheckpointError, match=name.partition(".")[0]):
        merge_adapter(open_source(str(CHECKPOINT)).weights, adapter)
