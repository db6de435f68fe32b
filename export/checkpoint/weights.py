"""Files in the Hugging Face layout -> checked JSON objects and finite float32 tensors."""

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
"""As safetensors calls them."""

MOST_HEADER = 16 * 2**20
"""Bytes of a safetensors header; that of the real checkpoint, of 135 tensors, has 13,000."""

MOST_PARAMETERS = 2**31
"""Numbers in a checkpoint, seven times as many as in the real one."""

WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What data parallelism, torch.compile, FSDP and activation checkpointing put into names, around the network or parts
of it; none of its own modules is called so."""


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a safetensors file.

    Attributes:
        path: The file.
        name: What it is called there.
        dtype: As safetensors calls it.
        shape: Its sizes.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_json(folder: Path, name: str) -> Fields:
    """Return the JSON object in a file of a checkpoint.

    Raises:
        CheckpointError: It is not there, or not as it should be.
    """
    if not os.path.lexists(folder / name):
        raise CheckpointError(f"{folder.name} has no {name}; expected a checkpoint in the Hugging Face layout")
    return parse_object(read_bytes(folder / name, CHECKPOINT), f"{name} of {folder.name}", CHECKPOINT)


def find_tensors(folder: Path) -> dict[str, Stored]:
    """Return where the tensors of a checkpoint lie: in one safetensors file, or in shards with an index."""
    if os.path.lexists(folder / WEIGHTS):
        return read_header(folder / WEIGHTS)
    if os.path.lexists(folder / INDEX):
        return read_shards(folder)
    pickles = sorted(printable(path.name) for path in folder.iterdir() if path.suffix in PICKLES)
    found = f"{', '.join(pickles)}, which are pickles and never opened" if pickles else "no weights at all"
    raise CheckpointError(f"{folder.name} has {found}; expected {WEIGHTS} or {INDEX}: save it with save_pretrained")


def read_shards(folder: Path) -> dict[str, Stored]:
    """Return where the tensors of an index lie, each in the shard that it names."""
    index = read_json(folder, INDEX)
    places = index.fields("weight_map")
    shards = sorted({places.text(name) for name in places})
    if not shards:
        raise index.wrong("weight_map", "the shard of every tensor")
    tensors: dict[str, Stored] = {}
    for shard in shards:
        there = os.path.isfile(folder / shard)  # noqa: PTH113  # which raises nothing, be the name ever so long
        if Path(shard).name != shard or not there:
            raise CheckpointError(
                f"{INDEX} of {folder.name} names {shown(shard)}, which is no file beside it; fetch it"
            )
        tensors.update(read_header(folder / shard))
    if wrong := set(places) ^ set(tensors):
        raise CheckpointError(
            f"{INDEX} of {folder.name} and its shards differ in {listed(wrong)}; take an unaltered copy of all of them"
        )
    return tensors


def read_header(path: Path) -> dict[str, Stored]:
    """Return what a safetensors file says that it holds, by name; whether it does is found out by `load`."""
    content = header_of(path)
    header = parse_object(content, f"{path.name} of {path.parent.name} is damaged: its header", CHECKPOINT)
    tensors = {name: header.fields(name) for name in header if name != "__metadata__"}
    return {
        name: Stored(path, name, said.text("dtype", 20), tuple(said.integers("shape", 0, 2**40)))
        for name, said in tensors.items()
    }


def header_of(path: Path) -> bytes:
    """Return the JSON at the beginning of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} of {path.parent.name} is no regular file; take an unaltered copy")
    try:
        with path.open("rb") as file:
            length, most = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size - 8
            if not length <= min(most, MOST_HEADER):
                raise damaged(path, f"its header is said to have {length} bytes, of {max(most, 0)}")
            return file.read(length)
    except OSError as error:
        raise damaged(path, error) from error


def load(tensors: Mapping[str, Stored]) -> dict[str, Tensor]:
    """Return tensors as float32, by the names that they are given here.

    Raises:
        CheckpointError: A file is damaged, or one of them is too large, of another dtype, or not finite.
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
    """Return a tensor as float32, in which every number is finite."""
    wide = tensor.to(torch.float32)
    if not torch.isfinite(wide).all():
        raise CheckpointError(
            f"{printable(name)} holds NaN or infinity, expected finite numbers; take a sound checkpoint"
        )
    return wide


def damaged(path: Path, what: object) -> CheckpointError:
    """Return the error of a weights file that cannot be read."""
    return CheckpointError(
        f"{path.name} of {path.parent.name} is damaged: {printable(str(what))}; take an unaltered copy"
    )


def unwrapped(name: str) -> str:
    """Return a tensor's name without what wrappers of a training put into it."""
    return WRAPPERS.sub("", name)
