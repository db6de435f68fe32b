"""Writes a model's folder for Triton Inference Server: the generation graph as it is, and its config.pbtxt.

config.pbtxt    what the graph takes and returns
1/model.onnx    onnx/generate.onnx
1/NAME.data     its weights, under the name by which the graph refers to them
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from diffutron_ort._version import __version__
from diffutron_ort.bundle.integrity import check_file
from diffutron_ort.bundle.manifest import Bundle, Variant
from diffutron_ort.errors import BundleError, DiffutronError, OptionError
from diffutron_ort.runtime.contract import GENERATION_INPUTS, GENERATION_OUTPUTS
from diffutron_ort.runtime.contract_checks import check_signature
from diffutron_ort.runtime.graph_guard import GENERATION
from diffutron_ort.runtime.opening import open_graph
from diffutron_ort.signals import told_to_end

CONFIG, GRAPH = "config.pbtxt", "1/model.onnx"  # the names that Triton looks for; 1 is the version
TYPES: Mapping[str, str] = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}


def write_model(bundle: Bundle, out: str | Path, variant: str | None = None) -> None:
    """Write the folder of a model in Triton's model repository; the folder's name is the model's.

    Args:
        bundle: A verified bundle.
        out: The folder; must be free, or an empty directory.
        variant: The name of the bundle's variant; None is its default.

    Raises:
        OptionError: The bundle has no such variant, or `out` is taken.
        BundleError: The bundle has no generation graph for the variant, or a file that does not match its manifest.
        DiffutronError: The folder cannot be written.
    """
    name = bundle.default_variant if variant is None else variant
    found = bundle.variant(name)
    if found.generate is None:
        able = ", ".join(other for other in bundle.variants if bundle.variants[other].generate)
        raise BundleError(f"{bundle.folder} has no generation graph for {name}; use {able or 'another bundle'}")
    with told_to_end(), _written(Path(out)) as folder:
        copy, copied = _copy(bundle, found, folder)
        session = open_graph(copy, copied, GENERATION, threads=1)
        check_signature(session, GENERATION.name, GENERATION_INPUTS, GENERATION_OUTPUTS, folder / GRAPH)
        (folder / CONFIG).write_text(config(session, name, bundle.least_onnxruntime), "utf-8")


def config(session: Any, variant: str, least_onnxruntime: str) -> str:
    """Return the configuration of an opened graph, in the text form of Triton's ModelConfig.

    Args:
        session: ONNX Runtime's session of the graph.
        variant: The variant's name, for a comment.
        least_onnxruntime: The oldest release that runs the graph, for a comment.
    """
    return "\n".join(
        (
            f"# Variant {variant}, by diffutron-ort {__version__}; needs ONNX Runtime {least_onnxruntime} or newer",
            'backend: "onnxruntime"',
            "max_batch_size: 0  # the graph answers one prompt at a time",
            *_tensors("input", session.get_inputs()),
            *_tensors("output", session.get_outputs()),
            "instance_group [ { count: 1 kind: KIND_CPU } ]  # each instance has its own copy of the weights",
            "",
        )
    )


def _tensors(kind: str, values: Sequence[Any]) -> list[str]:
    rows = [
        f'  {{ name: "{value.name}" data_type: {TYPES[value.type]} dims: {_dims(value.shape)} }}' for value in values
    ]
    return [f"{kind} [", ",\n".join(rows), "]"]


def _dims(shape: Sequence[int | str]) -> list[int]:
    """Return a shape as Triton writes it: -1 is any size, and a scalar is one value."""
    return [size if isinstance(size, int) else -1 for size in shape] or [1]


def _copy(bundle: Bundle, variant: Variant, folder: Path) -> tuple[Bundle, Variant]:
    """Copy a variant's generation graph and weights; return what describes the copy."""
    assert variant.generate is not None, "the caller checks that there is a generation graph"
    weights = f"1/{PurePosixPath(variant.weights).name}"
    (folder / "1").mkdir()
    for name, copied in ((variant.generate, GRAPH), (variant.weights, weights)):
        check_file(bundle, name, hashed=True)
        shutil.copyfile(bundle.folder / name, folder / copied)
    files = {GRAPH: bundle.files[variant.generate], weights: bundle.files[variant.weights]}
    return replace(bundle, folder=folder, files=files), replace(variant, generate=GRAPH, weights=weights)


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """Yield a new folder, which becomes `out` at the end; nothing is left of it after an error.

    Raises:
        OptionError: `out` is taken.
        DiffutronError: It cannot be written.
    """
    try:
        if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
            raise OptionError(f"{str(out)!r} exists already; give a path that is free, or an empty directory")
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".diffutron-", dir=out.absolute().parent) as beside:
            folder = Path(beside) / "model"
            folder.mkdir()
            yield folder
            folder.rename(out)
    except DiffutronError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL
        reason = getattr(error, "strerror", None) or error
        raise DiffutronError(f"{str(out)!r} cannot be written: {reason}; make room, or choose another path") from error
