"""Reads JSON objects and the rows of tensors, checked and finite, from files in the Hugging Face layout."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from diffutron_ort.errors import CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields, parse_object, read_bytes
from diffutron_ort_export.checkpoint.messages import listed, printable, shown

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

DTYPES = {"BF16": np.dtype(bfloat16), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
"""The supported dtypes, by their names in safetensors."""

MOST_ROWS = 16_384
"""The most rows of a tensor in a chunk; one of the real table takes 50 MB."""

MOST_HEADER = 16 * 2**20
"""The most bytes of a safetensors header; the real checkpoint's has 13,000."""

MOST_PARAMETERS = 2**31
"""The most numbers in a checkpoint, seven times as many as in the real one."""

WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""The prefixes that data parallelism, torch.compile, FSDP and activation checkpointing put into names, before the whole
name or inside it. None of the network's own modules has such a name."""


class Weights(Protocol):
    """The float32 tensors of a checkpoint, read a few rows at a time; nothing stays in memory."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor, by its name in the checkpoint."""

    def rows(self, name: str, first: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Return the rows [first, end) of a tensor, to its last row if `end` is None: finite, [end - first, ...].

        Raises:
            CheckpointError: A number is NaN or infinite, or the file is damaged.
        """

    def chunks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield all rows of a tensor in order, at most `MOST_ROWS` at a time."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file.

    Attributes:
        path: The file.
        name: The tensor's name in the file.
        dtype: The dtype, by its name in safetensors.
        shape: The sizes.
        start: The byte of the file that the tensor begins at.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    def rows(self, first: int, end: int) -> NDArray[np.float32]:
        """Return the rows [first, end) as float32, if all their numbers are finite."""
        dtype, width = DTYPES[self.dtype], math.prod(self.shape[1:])
        count, offset = (end - first) * width, first * width * dtype.itemsize
        try:
            numbers = np.fromfile(self.path, dtype, count, offset=self.start + offset)
        except OSError as error:
            raise damaged(self.path, error) from error
        if numbers.size < count:
            raise damaged(self.path, f"{self.name} ends early")
        return finite(self.name, numbers.astype(np.float32, copy=False).reshape(-1, *self.shape[1:]))


@dataclass(frozen=True)
class StoredWeights:
    """The weights in safetensors files.

    Attributes:
        stored: The tensors, by their names in the checkpoint.
        shapes: Their shapes, which may have fewer rows than are stored.
    """

    stored: Mapping[str, Stored]
    shapes: Mapping[str, tuple[int, ...]]

    def rows(self, name: str, first: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Return rows of a tensor; see `Weights`."""
        return self.stored[name].rows(first, self.shapes[name][0] if end is None else end)

    def chunks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of a tensor; see `Weights`."""
        return chunks_of(self, name)


def chunks_of(weights: Weights, name: str) -> Iterator[NDArray[np.float32]]:
    """Yield all rows of a tensor in order, at most `MOST_ROWS` at a time."""
    count = weights.shapes[name][0]
    for first in range(0, count, MOST_ROWS):
        yield weights.rows(name, first, min(first + MOST_ROWS, count))


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
    """Return the tensors that a safetensors file's header lists; `check_readable` finds out whether they are there."""
    content = header_of(path)
    header = parse_object(content, f"{path.name} of {path.parent.name} is damaged: its header", CHECKPOINT)
    return {name: entry_of(path, name, header.fields(name), len(content)) for name in header if name != "__metadata__"}


def entry_of(path: Path, name: str, entry: Fields, header: int) -> Stored:
    """Return the tensor that an entry of a header of `header` bytes describes."""
    shape, offsets = entry.integers("shape", 0, 2**40), entry.integers("data_offsets", 0, 2**62)
    return Stored(path, name, entry.text("dtype", 20), tuple(shape), 8 + header + min(offsets, default=0))


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


def check_readable(tensors: Iterable[Stored]) -> None:
    """Check the size and the dtypes of tensors, and that their files are whole.

    Raises:
        CheckpointError: A file is damaged, the tensors are too large, or one has another dtype.
    """
    tensors = list(tensors)
    if (size := sum(math.prod(tensor.shape) for tensor in tensors)) > MOST_PARAMETERS:
        raise CheckpointError(f"the weights are {size} numbers, expected at most {MOST_PARAMETERS}")
    if wrong := [f"{t.name} is {t.dtype}" for t in tensors if t.dtype not in DTYPES]:
        raise CheckpointError(
            f"{listed(wrong)}, expected {', '.join(DTYPES)}; export the checkpoint before quantization"
        )
    for path in sorted({tensor.path for tensor in tensors}):
        try:
            with safe_open(path, framework="np"):
                pass  # opening checks that the tensors lie in the file, one after another, each of its dtype's size
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from error


def check_finite(weights: Weights, names: Iterable[str]) -> None:
    """Check that all numbers of some tensors are finite, by reading them once.

    Raises:
        CheckpointError: One is not, or a file is damaged.
    """
    for name in names:
        for _ in weights.chunks(name):
            pass


def finite(name: str, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return numbers of a tensor, if all are finite."""
    if not np.isfinite(numbers).all():
        raise CheckpointError(
            f"{printable(name)} holds NaN or infinity, expected finite numbers; take a sound checkpoint"
        )
    return numbers


def damaged(path: Path, what: object) -> CheckpointError:
    """Return the error for a weights file that cannot be read."""
    return CheckpointError(
        f"{path.name} of {path.parent.name} is damaged: {printable(str(what))}; take an unaltered copy"
    )


def unwrapped(name: str) -> str:
    """Return a tensor's name without the prefixes of a training's wrappers."""
    return WRAPPERS.sub("", name)
