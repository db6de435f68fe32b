"""Reads checked JSON objects and finite float32 tensors from files in the Hugging Face layout."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffutron_ort.errors import CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields, parse_object, read_bytes
from diffutron_ort_export.checkpoint.messages import listed, printable, shown

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

DTYPES = ("BF16", "F16", "F32")
"""The supported dtypes, by their names in safetensors."""

MOST_HEADER = 16 * 2**20
"""The most bytes of a safetensors header; the real checkpoint's has 13,000."""

MOST_PARAMETERS = 2**31
"""The most numbers in a checkpoint, seven times as many as in the real one."""

WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""The prefixes that data parallelism, torch.compile, FSDP and activation checkpointing put into names, before the whole
name or inside it. None of the network's own modules has such a name."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file.

    Attributes:
        path: The file.
        name: The tensor's name in the file.
        dtype: The dtype, by its name in safetensors.
        shape: The sizes.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_json(folder: Path, name: str) -> Fields:
    """Return the JSON object in a file of a checkpoint.

    Raises:
        CheckpointError: The file is missing or malformed.
    """
    if not os.path.lexists(folder / name):
        raise CheckpointError(f"{folder.name} has no {name}; expected a checkpoint in the Hugging Face layout")
    return parse_object(read_bytes(folder / name, CHECKPOINT), f"{name} of {folder.name}", CHECKPOINT)


def find_tensors(folder: Path) -> dict[str, Stored]:
    """Return the stored tensors of a checkpoint, from one safetensors file or from shards with an index."""
    if os.path.lexists(folder / WEIGHTS):
        return read_header(folder / WEIGHTS)
    if os.path.lexists(folder / INDEX):
        return read_shards(folder)
    pickles = sorted(printable(path.name) for path in folder.iterdir() if path.suffix in PICKLES)
    found = f"{', '.join(pickles)}, which are pickles and never opened" if pickles else "no weights at all"
    raise CheckpointError(f"{folder.name} has {found}; expected {WEIGHTS} or {INDEX}: save it with save_pretrained")


def read_shards(folder: Path) -> dict[str, Stored]:
    """Return the stored tensors of all shards that an index names."""
    index = read_json(folder, INDEX)
    shard_of = index.fields("weight_map")
    shards = sorted({shard_of.text(name) for name in shard_of})
    if not shards:
        raise index.wrong("weight_map", "the shard of every tensor")
    tensors: dict[str, Stored] = {}
    for shard in shards:
        there = os.path.isfile(folder / shard)  # noqa: PTH113  # which does not raise, however long the name
        if Path(shard).name != shard or not there:
            raise CheckpointError(
                f"{INDEX} of {folder.name} names {shown(shard)}, which is not a file in the same folder; download it"
            )
        tensors.update(read_header(folder / shard))
    if wrong := set(shard_of) ^ set(tensors):
        raise CheckpointError(
            f"{INDEX} of {folder.name} and its shards differ in {listed(wrong)}; take an unaltered copy of all of them"
        )
    return tensors


def read_header(path: Path) -> dict[str, Stored]:
    """Return the tensors that the header of a safetensors file lists; `load` finds out whether they are there."""
    content = header_of(path)
    header = parse_object(content, f"{path.name} of {path.parent.name} is damaged: its header", CHECKPOINT)
    tensors = {name: header.fields(name) for name in header if name != "__metadata__"}
    return {
        name: Stored(path, name, entry.text("dtype", 20), tuple(entry.integers("shape", 0, 2**40)))
        for name, entry in tensors.items()
    }


def header_of(path: Path) -> bytes:
    """Return the header of a safetensors file, as JSON."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} of {path.parent.name} is not a regular file; take an unaltered copy")
    try:
        with path.open("rb") as file:
            length, most = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size - 8
            if not length <= min(most, MOST_HEADER):
                raise damaged(path, f"its header claims {length} bytes, of {max(most, 0)}")
            return file.read(length)
    except OSError as error:
        raise damaged(path, error) from error


def load(tensors: Mapping[str, Stored]) -> dict[str, Tensor]:
    """Return tensors as float32, by the keys that they have in `tensors`.

    Raises:
        CheckpointError: A file is damaged, the tensors are too large, or one has another dtype or is not finite.
    """
    if (size := sum(math.prod(tensor.shape) for tensor in tensors.values())) > MOST_PARAMETERS:
        raise CheckpointError(f"the weights are {size} numbers, expected at most {MOST_PARAMETERS}")
    if wrong := [f"{t.name} is {t.dtype}" for t in tensors.values() if t.dtype not in DTYPES]:
        raise CheckpointError(
            f"{listed(wrong)}, expected {', '.join(DTYPES)}; export the checkpoint before quantization"
        )
    found: dict[str, Tensor] = {}
    in_files = sorted(tensors.items(), key=lambda item: str(item[1].path))
    for path, group in groupby(in_files, key=lambda item: item[1].path):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: finite(tensor.name, file.get_tensor(tensor.name)) for name, tensor in group}
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from error
    return {name: found[name] for name in tensors}


def finite(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as float32, if all its numbers are finite."""
    wide = tensor.to(torch.float32)
    if not torch.isfinite(wide).all():
        raise CheckpointError(
            f"{printable(name)} holds NaN or infinity, expected finite numbers; take a sound checkpoint"
        )
    return wide


def damaged(path: Path, what: object) -> CheckpointError:
    """Return the error for a weights file that cannot be read."""
    return CheckpointError(
        f"{path.name} of {path.parent.name} is damaged: {printable(str(what))}; take an unaltered copy"
    )


def unwrapped(name: str) -> str:
    """Return a tensor's name without the prefixes of a training's wrappers."""
    return WRAPPERS.sub("", name)
