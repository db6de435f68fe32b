"""The files of a checkpoint as fuzzing targets: each is fed to the exporter's reader."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from .mutate import mutated_json, mutated_safetensors
from .supervise import Target
from .targets import seeds

TINY = Path(__file__).parents[1] / "golden" / "tiny"
LIKELY = {
    "generation_config.json": b'{"temperature": 0.5, "max_new_tokens": 64, "stop": ["x"], "eos_token_id": [1, 106]}',
    "special_tokens_map.json": b'{"mask_token": {"content": "<mask>", "lstrip": true}, "pad_token": "<pad>"}',
}
"""Seeds for files that the tiny checkpoint lacks."""


def checkpoint(name: str) -> Callable[[bytes], object]:
    """Open a checkpoint with a mutant of the file `name`, as an export does before it builds a graph."""
    from diffutron_ort_export.checkpoint.generation_config import generation_defaults
    from diffutron_ort_export.checkpoint.source import open_source

    folder = shutil.copytree(TINY / "checkpoint", Path(tempfile.mkdtemp(prefix="fuzz-")) / "checkpoint")

    def run(content: bytes) -> None:
        (folder / name).write_bytes(content)
        generation_defaults(open_source(str(folder)), 256)

    open_source(str(folder))  # triggers imports on first use, so that the first mutant does not pay for them
    return run


def bundled_config(name: str) -> Callable[[bytes], object]:
    """Have transformers read what a bundle makes of a mutant of config.json."""
    from transformers import ModernBertConfig

    from diffutron_ort_export.checkpoint.architecture import portable_config, read_shape
    from diffutron_ort_export.checkpoint.weights import read_json

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def run(content: bytes) -> None:
        (folder / name).write_bytes(content)
        config = read_json(folder, name).values
        ModernBertConfig(**portable_config(config, read_shape(config)))

    run((TINY / "checkpoint" / name).read_bytes())
    return run


def adapter(name: str) -> Callable[[bytes], object]:
    """Merge an adapter with a mutant of the file `name`."""
    from diffutron_ort_export.checkpoint.adapter import merge_adapter
    from diffutron_ort_export.checkpoint.source import open_source

    weights = open_source(str(TINY / "checkpoint")).weights
    folder = shutil.copytree(TINY / "adapter", Path(tempfile.mkdtemp(prefix="fuzz-")) / "adapter")

    def run(content: bytes) -> None:
        (folder / name).write_bytes(content)
        merge_adapter(weights, folder)

    return run


def likely(name: str) -> list[bytes]:
    """Return the seeds for a file."""
    paths = [path for path in (TINY / "checkpoint" / name, TINY / "adapter" / name) if path.exists()]
    return [*([LIKELY[name]] if name in LIKELY else []), *seeds(name, *paths)]


def target(name: str, mutate: Callable[[bytes, Random], bytes], file: str, prepare: Callable[..., Any]) -> Target:
    """Return the target for a file of the tiny checkpoint or adapter."""
    return Target(name, partial(likely, file), mutate, partial(prepare, file))


CHECKPOINTS = {
    f"its_{name}": target(f"its_{name}", mutate, file, prepare)
    for name, mutate, file, prepare in (
        ("config", mutated_json, "config.json", checkpoint),
        ("generation_config", mutated_json, "generation_config.json", checkpoint),
        ("special_tokens_map", mutated_json, "special_tokens_map.json", checkpoint),
        ("tokenizer", mutated_json, "tokenizer.json", checkpoint),
        ("tokenizer_config", mutated_json, "tokenizer_config.json", checkpoint),
        ("weights", mutated_safetensors, "model.safetensors", checkpoint),
        ("adapter_config", mutated_json, "adapter_config.json", adapter),
        ("adapter", mutated_safetensors, "adapter_model.safetensors", adapter),
    )
}

TRANSFORMERS = {"bundled_config": target("bundled_config", mutated_json, "config.json", bundled_config)}
"""What needs the extra [torch]."""
