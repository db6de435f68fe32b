"""Writes what a bundle holds beside its graphs: settings, tokenizer, manifest."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.integrity import sha256
from diffutron_ort.bundle.manifest import FORMAT, MANIFEST
from diffutron_ort.runtime.opening import LEAST_ONNXRUNTIME
from diffutron_ort.sampler.random import UNIFORM_VECTORS
from diffutron_ort.text.chat_template import ANSWER_END, CHAT_TEMPLATE
from diffutron_ort_export.checkpoint.generation_config import generation_defaults
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.plain import weights
from diffutron_ort_export.recipes import Recipe
from diffutron_ort_export.staging import write_json

TOOLS = ("torch", "onnx", "onnxscript", "transformers", "onnxruntime", "diffutron-ort")


def write_settings(source: Source, folder: Path, context_length: int) -> None:
    """Writes the files that are not of a variant: config, generation defaults and tokenizer."""
    write_json(folder / "config.json", source.config)
    write_json(folder / "generation_config.json", generation_defaults(source, context_length))
    for name, content in source.tokenizer.files.items():
        (folder / name).write_bytes(content)


def place(folder: Path, name: str) -> Path:
    """Where a file of the bundle goes, its folder made."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    return path


def provenance(source: Source) -> dict[str, str]:
    """Where a graph comes from, for its metadata."""
    origin = {"source": source.name, "revision": source.revision, "adapter": source.adapter}
    return {name: value for name, value in (origin | tools()).items() if value is not None}


def manifest(
    source: Source, folder: Path, context_length: int, cards: Mapping[Recipe, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what diffutron.json says, all other files being there.

    Args:
        source: the checkpoint.
        folder: the bundle.
        context_length: how long prompt and answer may be together.
        cards: for each variant, its fidelity card.
    """
    return {
        "format": FORMAT,
        "source": {"name": source.name, "revision": source.revision, "adapter": source.adapter},
        "context_length": context_length,
        "vocab_size": source.shape.vocab_size,
        "layers": source.shape.layers,
        "hidden_size": source.shape.hidden_size,
        "special_ids": dict(source.tokenizer.special_ids),
        "chat_template": dict(CHAT_TEMPLATE),
        "stop_sequences": [{"text": ANSWER_END, "ids": list(source.tokenizer.answer_end)}],
        "uniform": {"vectors": [uniform(*vector) for vector in UNIFORM_VECTORS]},
        "least_onnxruntime": LEAST_ONNXRUNTIME,
        **({} if source.output_vocabulary is None else {"output_vocabulary": list(source.output_vocabulary)}),
        "files": files(folder),
        "variants": {
            recipe.name: {
                "graph": recipe.graph,
                "generate": recipe.generation,
                "weights": recipe.weights,
                "alone": not recipe.batch_invariant,
                "fidelity": dict(card),
            }
            for recipe, card in cards.items()
            if not recipe.third_party
        },
        **{recipe.name: third_party(recipe, folder, card) for recipe, card in cards.items() if recipe.third_party},
        "tools": tools(),
    }


def third_party(recipe: Recipe, folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of a graph for other programs."""
    beside = weights(folder / recipe.graph).relative_to(folder)
    return {"graph": recipe.graph, "weights": beside.as_posix(), "fidelity": dict(card)}


def uniform(place: tuple[int, ...], value: int) -> dict[str, int]:
    """One vector of the uniform's hash."""
    return dict(zip(("seed", "stream", "block", "step", "position"), place, strict=True)) | {"hash": value}


def files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of every file but the manifest, and but hidden ones, which a file system may add."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and not p.name.startswith("."))
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths
    }


def tools() -> dict[str, str]:
    """Releases of what had a part in the export."""
    return {name: importlib.metadata.version(name) for name in TOOLS}
