"""Writes the files of a bundle that belong to no variant: settings, tokenizer, manifest."""

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

TOOLS = ("diffutron-ort", "onnx", "onnx-ir", "onnxscript", "numpy", "onnxruntime")


def write_settings(source: Source, folder: Path, context_length: int) -> None:
    """Write config.json, generation_config.json and the tokenizer's files."""
    write_json(folder / "config.json", source.config)
    write_json(folder / "generation_config.json", generation_defaults(source, context_length))
    for name, content in source.tokenizer.files.items():
        (folder / name).write_bytes(content)


def file_path(folder: Path, name: str) -> Path:
    """Return the path of a file of the bundle, and create the folder that it goes into."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    return path


def provenance(source: Source) -> dict[str, str]:
    """Return the origin of a graph, for the graph's metadata."""
    origin = {"source": source.name, "revision": source.revision, "adapter": source.adapter}
    return {name: value for name, value in (origin | tools()).items() if value is not None}


def manifest(
    source: Source, folder: Path, context_length: int, cards: Mapping[Recipe, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of diffutron.json; all other files are written already.

    Args:
        source: The checkpoint.
        folder: The bundle.
        context_length: The most tokens, prompt and answer together.
        cards: The fidelity card of each variant.
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
        "uniform": {"vectors": [uniform_vector(*vector) for vector in UNIFORM_VECTORS]},
        "least_onnxruntime": LEAST_ONNXRUNTIME,
        **({} if source.output_vocabulary is None else {"output_vocabulary": list(source.output_vocabulary)}),
        "files": files(folder),
        "variants": {recipe.name: variant(recipe, card) for recipe, card in cards.items() if not recipe.third_party},
        **{recipe.name: third_party(recipe, folder, card) for recipe, card in cards.items() if recipe.third_party},
        "tools": tools(),
    }


def variant(recipe: Recipe, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry of a variant."""
    is_invariant = recipe.batch_invariant or card.get("activation_scales") == "token"
    return {
        "graph": recipe.graph,
        **({} if recipe.shares else {"generate": recipe.generation}),
        "weights": recipe.weights,
        **({} if is_invariant else {"batch_invariant": False}),
        **({"providers": list(recipe.providers)} if recipe.providers else {}),
        "fidelity": dict(card),
    }


def third_party(recipe: Recipe, folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry of a graph for other programs."""
    path = weights(folder / recipe.graph).relative_to(folder)
    return {"graph": recipe.graph, "weights": path.as_posix(), "fidelity": dict(card)}


def uniform_vector(place: tuple[int, ...], value: int) -> dict[str, int]:
    """Return the manifest's entry of one test vector of the hash behind the uniforms."""
    return dict(zip(("seed", "stream", "block", "step", "position"), place, strict=True)) | {"hash": value}


def files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of every file, except the manifest and hidden files, which a file system may add."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and not p.name.startswith("."))
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths
    }


def tools() -> dict[str, str]:
    """Return the versions of the packages that take part in an export."""
    return {name: importlib.metadata.version(name) for name in TOOLS}
