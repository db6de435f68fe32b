"""Files in the Hugging Face layout -> JSON objects and finite float32 tensors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffutron_ort.errors import CheckpointError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A file that holds one JSON object."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder.name} has no {name}; expected a checkpoint in the Hugging Face layout"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{name} of {folder.name} is not JSON: {error}; take an unaltered copy") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} of {folder.name} holds a {type(value).__name__}, expected an object")
    return value


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file, or of shards with an index."""
    if (folder / WEIGHTS).exists():
        return dict(stored(folder / WEIGHTS))
    if (folder / INDEX).exists():
        return read_shards(folder)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    found = f"{', '.join(pickles)}, which are pickles and never opened" if pickles else "no weights at all"
    raise CheckpointError(f"{folder.name} has {found}; expected {WEIGHTS} or {INDEX}: save it with save_pretrained")


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of an index, each from the shard that it names."""
    places = read_json(folder, INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{INDEX} of {folder.name} has no weight_map; take an unaltered copy")
    tensors: dict[str, Tensor] = {}
    for shard in sorted({str(place) for place in places.values()}):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise CheckpointError(f"{INDEX} of {folder.name} names {shard!r}, which is no file beside it; fetch it")
        tensors.update(stored(folder / shard))
    if wrong := set(places) ^ set(tensors):
        raise CheckpointError(
            f"{INDEX} of {folder.name} and its shards differ in {listed(wrong)}; take an unaltered copy of all of them"
        )
    return tensors


def stored(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a safetensors file, as float32."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                yield name, as_float32(name, file.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name} of {path.parent.name} is damaged: {error}; take an unaltered copy"
        ) from error


def as_float32(name: str, tensor: Tensor) -> Tensor:
    """A finite float32 copy of a bfloat16, float16 or float32 tensor."""
    if tensor.dtype not in DTYPES:
        raise CheckpointError(
            f"{name} is {tensor.dtype}, expected {listed(map(str, DTYPES))}; export the checkpoint before quantization"
        )
    wide = tensor.to(torch.float32)
    if not torch.isfinite(wide).all():
        raise CheckpointError(f"{name} holds NaN or infinity, expected finite numbers; take a sound checkpoint")
    return wide


def listed(names: Any, separator: str = ", ", most: int = 4) -> str:  # any iterable of str
    """The first few names and how many there are beyond."""
    ordered = list(names) if isinstance(names, list | tuple) else sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return separator.join(ordered[:most]) + more
