"""Reads a checkpoint from a directory or the hub, with or without a LoRA adapter, and checks all of it."""

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffutron_ort.errors import CheckpointError
from diffutron_ort.types import Ids
from diffutron_ort_export.checkpoint.adapter import merge_adapter
from diffutron_ort_export.checkpoint.architecture import Shape, portable_config, read_shape
from diffutron_ort_export.checkpoint.layout import HEAD, TABLE, TIED, tensor_shapes
from diffutron_ort_export.checkpoint.messages import listed, printable
from diffutron_ort_export.checkpoint.tokenizer import Tokenizer, read_tokenizer
from diffutron_ort_export.checkpoint.weights import (
    INDEX,
    WEIGHTS,
    Stored,
    StoredWeights,
    Weights,
    check_finite,
    check_readable,
    find_tensors,
    read_json,
    unwrapped,
)
from diffutron_ort_export.request import check_source, is_folder

TOKENS, ENCODER = "embeddings.tok_embeddings.weight", ("embeddings.", "layers.", "final_norm.")
GENERATION = "generation_config.json"

PADDINGS = (1, *(2**k for k in range(3, 11)))
"""The multiples that the rows of a table may be padded to."""

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
"""The files of a repository that are downloaded; none of them is a pickle."""


@dataclass(frozen=True)
class Source:
    """A checkpoint that has passed every check.

    Attributes:
        name: The hub id, or the folder's own name.
        revision: The 40-hex commit of a hub id; None for a folder.
        adapter: The merged adapter's name; None if there is none.
        shape: The network's shape.
        config: The content of the bundle's config.json.
        weights: The tensors, the tied table once; table and bias end at `shape.vocab_size`.
        tokenizer: The tokenizer's files and special ids.
        generation: The content of the source's generation_config.json; empty if it has none.
        output_vocabulary: The ids that the export can predict, ascending; None means all.
    """

    name: str
    revision: str | None
    adapter: str | None
    shape: Shape
    config: Mapping[str, Any]
    weights: Weights
    tokenizer: Tokenizer
    generation: Mapping[str, Any]
    output_vocabulary: tuple[int, ...] | None = None

    @property
    def kept(self) -> Ids | None:
        """The output vocabulary [columns] as an array; None means all."""
        return None if self.output_vocabulary is None else np.array(self.output_vocabulary)


def open_source(source: str, *, revision: str | None = None, adapter: str | None = None) -> Source:
    """Find, read and check a checkpoint.

    Args:
        source: A directory in the Hugging Face layout, or a hub id.
        revision: A branch, tag or commit of a hub id; None takes the current commit.
        adapter: The directory of a peft LoRA adapter to merge.

    Raises:
        CheckpointError: The checkpoint is missing, or cannot be exported.
        OptionError: A directory is given a revision, or the revision cannot be one.
    """
    folder, name, commit = locate(source, revision)
    opened = read_source(folder, name, commit)
    if adapter is None:
        return opened
    path = Path(adapter)
    return replace(opened, adapter=own_name(path), weights=merge_adapter(opened.weights, path))


def locate(source: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Return the folder of a source, its name, and its commit if it comes from the hub."""
    check_source(source, revision)
    if is_folder(source):
        return Path(source), own_name(Path(source)), None
    folder = download(source, revision)
    return folder, source, folder.name


def own_name(folder: Path) -> str:
    """Return a folder's own name as the manifest can hold it: it need not be UTF-8."""
    return printable(os.fsencode(folder.resolve().name).decode("utf-8", "replace"))


def download(repository: str, revision: str | None) -> Path:
    """Return the snapshot folder of a hub id, whose name is the commit."""
    from huggingface_hub import snapshot_download  # slow to import, and only needed for hub ids

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # from the hub's client, its HTTP library, or the disk
        raise CheckpointError(
            f"source {repository!r} at revision {revision or 'main'!r} is not a directory here, and the hub gave none: "
            f"{hub_message(error)}; check the name, the revision and the network"
        ) from error


def hub_message(error: BaseException) -> str:
    """Return an error's message: the hub's own sentence if there is one, else the first line."""
    sentence = getattr(error, "server_message", None) or str(error).strip()
    return printable((sentence.splitlines() or [type(error).__name__])[0])


def read_source(folder: Path, name: str, commit: str | None) -> Source:
    """Read and check a folder in the Hugging Face layout."""
    config = read_json(folder, "config.json")
    shape = read_shape(config.values)
    tokenizer = read_tokenizer(folder, config.values)
    check_size(shape, tokenizer.size)
    stored = canonical_names(find_tensors(folder))
    tied = config.boolean("tie_word_embeddings") if "tie_word_embeddings" in config else True
    check_tensors(stored, stored_shape(shape, stored, tokenizer.size), tied=tied)
    shape = replace(shape, vocab_size=tokenizer.size)
    there = os.path.lexists(folder / GENERATION)
    return Source(
        name=name,
        revision=commit,
        adapter=None,
        shape=shape,
        config=portable_config(config.values, shape),
        weights=StoredWeights(stored, tensor_shapes(shape)),
        tokenizer=tokenizer,
        generation=read_json(folder, GENERATION).values if there else {},
    )


def check_size(shape: Shape, size: int) -> None:
    """Check that the vocabulary is the tokenizer's, with or without padding."""
    if not is_padded(shape.vocab_size, size):
        raise CheckpointError(
            f"tokenizer.json has {size} tokens and config.json says vocab_size {shape.vocab_size}; they must be "
            "equal, apart from padding: take the tokenizer that the checkpoint was trained with"
        )


def is_padded(rows: int, size: int) -> bool:
    """Return whether a table of `rows` rows can hold `size` pieces, padded for a GPU or not."""
    return any(rows == -(-size // multiple) * multiple for multiple in PADDINGS)


def stored_shape(shape: Shape, stored: Mapping[str, Stored], size: int) -> Shape:
    """Return the shape with the stored table's rows; rows beyond the tokenizer's pieces are padding."""
    table = stored.get(TABLE)
    rows = table.shape[0] if table and table.shape else shape.vocab_size
    return replace(shape, vocab_size=rows if is_padded(rows, size) else shape.vocab_size)


def canonical_names(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return tensors by the names that a ModernBertForMaskedLM gives them.

    Trainers may put the name of an attribute before all names, wrappers put prefixes into them, and some savers leave
    `model.` out. Any other name is kept, and refused later.
    """
    bare = {unwrapped(name): tensor for name, tensor in stored.items()}
    outer = outer_prefix(bare.keys())
    inner = {name: name.removeprefix(outer) for name in bare}
    names = {name: f"model.{bare}" if bare.startswith(ENCODER) else bare for name, bare in inner.items()}
    if len(set(names.values())) < len(stored):
        raise CheckpointError(
            "two tensors have the same name apart from the prefixes of wrappers; save the model again"
        )
    return {names[name]: tensor for name, tensor in bare.items()}


def outer_prefix(names: Set[str]) -> str:
    """Return the prefix before all names of a network, judging by its head or, without a head, by its encoder."""
    heads = {name.removesuffix(HEAD[0]) for name in names if name.endswith(HEAD[0])}
    encoders = {name.removesuffix(TOKENS).removesuffix("model.") for name in names if name.endswith(TOKENS)}
    return min(heads or encoders, default="")


def check_tensors(stored: Mapping[str, Stored], shape: Shape, *, tied: bool) -> None:
    """Check that the tensors are exactly the network's and finite, and that a second copy of the table is the same."""
    check_shapes({name: tensor for name, tensor in stored.items() if name != TIED}, shape)
    if not tied and TIED not in stored:
        raise CheckpointError(
            f"config.json: tie_word_embeddings is {tied!r}, and there is no {TIED}; expected a tied table"
        )
    check_readable(stored.values())
    weights = StoredWeights(stored, {name: tensor.shape for name, tensor in stored.items()})
    check_finite(weights, tensor_shapes(shape))
    if TIED in stored and not is_same(weights, TIED, TABLE):
        raise CheckpointError(
            f"{TIED} differs from {TABLE}, expected a tied table; export a checkpoint with tie_word_embeddings"
        )


def is_same(weights: Weights, one: str, other: str) -> bool:
    """Return whether two tensors are equal."""
    pairs = zip(weights.chunks(one), weights.chunks(other), strict=True)
    return weights.shapes[one] == weights.shapes[other] and all(np.array_equal(a, b) for a, b in pairs)


def check_shapes(stored: Mapping[str, Stored], shape: Shape) -> None:
    """Check that the tensors have the names and shapes of the network's."""
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
    """Check that no tensor is missing or extra."""
    common = os.path.commonprefix(list(found)).rpartition(".")[0]  # noqa: RUF071  # names, not paths
    all_begin = f"; all names begin with {printable(common)!r}" if common and not expected & found else ""
    if headless := [name for name in HEAD if name not in found]:
        raise CheckpointError(
            f"the masked-language-model head is missing: found no {listed(headless)}, expected {listed(HEAD)}; "
            f"a checkpoint merged or saved by AutoModel loses it: save it with AutoModelForMaskedLM{all_begin}"
        )
    extra = found - expected
    if missing := expected - found:
        instead = f", but {listed(extra)}" if extra else ""
        raise CheckpointError(
            f"found no {listed(missing)}{instead}, expected {len(expected)} tensors; take a whole checkpoint{all_begin}"
        )
    if extra:
        raise CheckpointError(
            f"found {listed(extra)}, which a ModernBertForMaskedLM with this config.json does not have"
        )
