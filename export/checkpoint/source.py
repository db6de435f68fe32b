"""Directory | hub id @ revision | base + LoRA adapter -> checked float32 tensors, config and tokenizer."""

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffutron_ort.errors import CheckpointError
from diffutron_ort_export.checkpoint.adapter import merge_adapter
from diffutron_ort_export.checkpoint.architecture import Shape, portable_config, read_shape
from diffutron_ort_export.checkpoint.layout import BIAS, HEAD, TABLE, TIED, tensor_shapes
from diffutron_ort_export.checkpoint.messages import listed, printable
from diffutron_ort_export.checkpoint.tokenizer import Tokenizer, read_tokenizer
from diffutron_ort_export.checkpoint.weights import INDEX, WEIGHTS, Stored, find_tensors, load, read_json, unwrapped
from diffutron_ort_export.request import check_source, is_folder

OF_PIECES = (TABLE, BIAS)
TOKENS, ENCODER = "embeddings.tok_embeddings.weight", ("embeddings.", "layers.", "final_norm.")
GENERATION = "generation_config.json"

PADDINGS = (1, *(2**k for k in range(3, 11)))
"""What the rows of a table are padded to a multiple of."""

DOWNLOADED = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    WEIGHTS,
    INDEX,
    "model-*-of-*.safetensors",
)
"""The files of a repository that are downloaded: none of them is a pickle."""


@dataclass(frozen=True)
class Source:
    """A checkpoint that has passed every check.

    Attributes:
        name: hub id, or the folder's own name.
        revision: 40-hex commit of a hub id, None for a folder.
        adapter: the merged adapter's name, if there is one.
        shape: the network's.
        config: what the bundle's config.json says.
        tensors: float32, by their names in the checkpoint, the tied table once.
        tokenizer: the files and the special ids.
        generation: the source's generation_config.json, empty where it has none.
        output_vocabulary: the ids of the output vocabulary that is wanted of an export, ascending; None is all.
    """

    name: str
    revision: str | None
    adapter: str | None
    shape: Shape
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer
    generation: Mapping[str, Any]
    output_vocabulary: tuple[int, ...] | None = None

    @property
    def columns(self) -> slice | list[int]:
        """What picks the columns of an export's logits out of all."""
        return slice(None) if self.output_vocabulary is None else list(self.output_vocabulary)


def open_source(source: str, *, revision: str | None = None, adapter: str | None = None) -> Source:
    """Find, read and check a checkpoint.

    Args:
        source: a directory in the Hugging Face layout, or a hub id.
        revision: of a hub id; the current one unless given.
        adapter: directory of a peft LoRA adapter, to be merged.

    Raises:
        CheckpointError: It is not there, or not what can be exported.
        OptionError: A revision of a directory, or one that cannot be.
    """
    folder, name, commit = locate(source, revision)
    opened = read_source(folder, name, commit)
    if adapter is None:
        return opened
    path = Path(adapter)
    tensors = merge_adapter(opened.tensors, path)
    return replace(opened, adapter=own_name(path), tensors=tensors)


def locate(source: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Return the folder of a source, its name, and its commit if it is of the hub."""
    check_source(source, revision)
    if is_folder(source):
        return Path(source), own_name(Path(source)), None
    folder = download(source, revision)
    return folder, source, folder.name


def own_name(folder: Path) -> str:
    """Return a folder's own name, which may be no UTF-8 and yet has to stand in the manifest."""
    return printable(os.fsencode(folder.resolve().name).decode("utf-8", "replace"))


def download(repository: str, revision: str | None) -> Path:
    """Return the snapshot folder of a hub id, whose name is the commit."""
    from huggingface_hub import snapshot_download  # slow to import, and only needed for hub ids

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # of the hub's client, of its HTTP library, or of the disk
        raise CheckpointError(
            f"source {repository!r} at revision {revision or 'main'!r} is not a directory here, and the hub gave none: "
            f"{told(error)}; check the name, the revision and the network"
        ) from error


def told(error: BaseException) -> str:
    """Return what an error says: the hub's own sentence if there is one, else its first line, without the advice."""
    sentence = getattr(error, "server_message", None) or str(error).strip()
    return printable((sentence.splitlines() or [type(error).__name__])[0])


def read_source(folder: Path, name: str, commit: str | None) -> Source:
    """Read and check a folder in the Hugging Face layout."""
    config = read_json(folder, "config.json")
    shape = read_shape(config.values)
    tokenizer = read_tokenizer(folder, config.values)
    check_size(shape, tokenizer.size)
    stored = plain_names(find_tensors(folder))
    tied = config.boolean("tie_word_embeddings") if "tie_word_embeddings" in config else True
    tensors = read_tensors(stored, padded(shape, stored, tokenizer.size), tied=tied)
    shape = replace(shape, vocab_size=tokenizer.size)
    there = os.path.lexists(folder / GENERATION)
    return Source(
        name=name,
        revision=commit,
        adapter=None,
        shape=shape,
        config=portable_config(config.values, shape),
        tensors={n: tensor[: shape.vocab_size] if n in OF_PIECES else tensor for n, tensor in tensors.items()},
        tokenizer=tokenizer,
        generation=read_json(folder, GENERATION).values if there else {},
    )


def check_size(shape: Shape, size: int) -> None:
    """Refuse a vocabulary that is not the tokenizer's, nor it and padding."""
    if not is_padded(shape.vocab_size, size):
        raise CheckpointError(
            f"tokenizer.json has {size} tokens and config.json says vocab_size {shape.vocab_size}; they have to be "
            "equal, padding to a power of two aside: take the tokenizer that the checkpoint was trained with"
        )


def is_padded(rows: int, size: int) -> bool:
    """Return whether a table of so many rows is one of so many pieces, padded for a GPU or not."""
    return any(rows == -(-size // multiple) * multiple for multiple in PADDINGS)


def padded(shape: Shape, stored: Mapping[str, Stored], size: int) -> Shape:
    """Return the shape of the tensors that are stored; rows beyond the tokenizer's pieces are never predicted."""
    table = stored.get(TABLE)
    rows = table.shape[0] if table and table.shape else shape.vocab_size
    return replace(shape, vocab_size=rows if is_padded(rows, size) else shape.vocab_size)


def plain_names(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return tensors by the names that a ModernBertForMaskedLM has for them.

    Trainers put the name of an attribute before all names, wrappers something into them, and some savers leave `model.`
    out. What does not begin like the network's names stays as it is, and is refused by its name.
    """
    bare = {unwrapped(name): tensor for name, tensor in stored.items()}
    outer = outermost(bare.keys())
    inner = {name: name.removeprefix(outer) for name in bare}
    names = {name: f"model.{bare}" if bare.startswith(ENCODER) else bare for name, bare in inner.items()}
    if len(set(names.values())) < len(stored):
        raise CheckpointError("two tensors are of one name but for what wrappers put before it; save the model anew")
    return {names[name]: tensor for name, tensor in bare.items()}


def outermost(names: Set[str]) -> str:
    """Return what stands before all names of a network; its head tells, or the encoder where there is no head."""
    heads = {name.removesuffix(HEAD[0]) for name in names if name.endswith(HEAD[0])}
    encoders = {name.removesuffix(TOKENS).removesuffix("model.") for name in names if name.endswith(TOKENS)}
    return min(heads or encoders, default="")


def read_tensors(stored: Mapping[str, Stored], shape: Shape, *, tied: bool) -> dict[str, Tensor]:
    """Return the tensors, if they are just the network's, without the second name of the tied table."""
    check_shapes({name: tensor for name, tensor in stored.items() if name != TIED}, shape)
    if not tied and TIED not in stored:
        raise CheckpointError(
            f"config.json: tie_word_embeddings is {tied!r}, and there is no {TIED}; expected a tied table"
        )
    tensors = load(stored)
    if TIED in tensors and not torch.equal(tensors.pop(TIED), tensors[TABLE]):
        raise CheckpointError(
            f"{TIED} differs from {TABLE}, expected a tied table; export a checkpoint with tie_word_embeddings"
        )
    return tensors


def check_shapes(stored: Mapping[str, Stored], shape: Shape) -> None:
    """Refuse tensors that are not those of a network."""
    expected = tensor_shapes(shape)
    check_names(expected.keys(), stored.keys())
    wrong = [
        f"{name} is {list(stored[name].shape)}, expected {list(size)}"
        for name, size in expected.items()
        if stored[name].shape != size
    ]
    if wrong:
        raise CheckpointError(f"wrong shapes: {listed(wrong, '; ')}; config.json and weights are of different models")


def check_names(expected: Set[str], found: Set[str]) -> None:
    """Refuse missing and extra tensors."""
    common = os.path.commonprefix(list(found)).rpartition(".")[0]  # noqa: RUF071  # names, not paths
    all_begin = f"; all names begin with {printable(common)!r}" if common and not expected & found else ""
    if headless := [name for name in HEAD if name not in found]:
        raise CheckpointError(
            f"the masked-language-model head is not there: found no {listed(headless)}, expected {listed(HEAD)}; "
            f"a checkpoint merged or saved by AutoModel loses it: save it by AutoModelForMaskedLM{all_begin}"
        )
    extra = found - expected
    if missing := expected - found:
        instead = f", but {listed(extra)}" if extra else ""
        raise CheckpointError(
            f"found no {listed(missing)}{instead}, expected {len(expected)} tensors; take a whole checkpoint{all_begin}"
        )
    if extra:
        raise CheckpointError(f"found {listed(extra)}, which a ModernBertForMaskedLM of this config.json has not")
