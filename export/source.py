"""Directory | hub id @ revision | base + LoRA adapter -> checked float32 tensors, config and tokenizer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffutron_ort.errors import CheckpointError, OptionError

from .adapter import merge_adapter
from .architecture import Shape, portable_config, read_shape
from .network import TABLE, parameter_shapes
from .tokenizer import Tokenizer, read_tokenizer
from .weights import INDEX, WEIGHTS, listed, read_json, read_tensors

TIED = "decoder.weight"
HEAD = ("head.dense.weight", "head.norm.weight", "decoder.bias")

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

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


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
        pieces: the ids of the output vocabulary that is wanted of an export, ascending; None is all.
    """

    name: str
    revision: str | None
    adapter: str | None
    shape: Shape
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer
    generation: Mapping[str, Any]
    pieces: tuple[int, ...] | None = None

    @property
    def columns(self) -> slice | list[int]:
        """What picks the columns of an export's logits out of all."""
        return slice(None) if self.pieces is None else list(self.pieces)


def open_source(source: str, *, revision: str | None = None, adapter: str | None = None) -> Source:
    """Finds, reads and checks a checkpoint.

    Args:
        source: a directory in the Hugging Face layout, or a hub id.
        revision: of a hub id; the current one unless given.
        adapter: directory of a peft LoRA adapter, to be merged.

    Raises:
        CheckpointError: it is not there, or not what can be exported.
        OptionError: a revision of a directory.
    """
    folder, name, commit = locate(source, revision)
    opened = read_source(folder, name, commit)
    if adapter is None:
        return opened
    path = Path(adapter)
    return replace(opened, adapter=path.resolve().name, tensors=merge_adapter(opened.tensors, path))


def locate(source: str, revision: str | None) -> tuple[Path, str, str | None]:
    """The folder of a source, its name, and its commit if it is of the hub."""
    path = Path(source)
    if path.is_dir():
        if revision is not None:
            raise OptionError(f"revision {revision!r} of {source}: a directory has no revisions; leave it out")
        return path, path.resolve().name, None
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"source {source!r} is neither a directory nor a hub id such as 'owner/name'; give one of the two"
        )
    folder = download(source, revision)
    return folder, source, folder.name


def download(repository: str, revision: str | None) -> Path:
    """The snapshot folder of a hub id, whose name is the commit."""
    from huggingface_hub import snapshot_download  # slow to import, and only needed for hub ids

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # of the hub's client, of its HTTP library, or of the disk
        raise CheckpointError(
            f"source {repository!r} at revision {revision or 'main'!r} is no directory here, and the hub gave none: "
            f"{first_line(error)}; check the name, the revision and the network"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the advice after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read_source(folder: Path, name: str, commit: str | None) -> Source:
    """Reads and checks a folder in the Hugging Face layout."""
    config = read_json(folder, "config.json")
    shape = read_shape(config)
    tokenizer = read_tokenizer(folder, config)
    if tokenizer.size != shape.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has {tokenizer.size} tokens and config.json says vocab_size {shape.vocab_size}; "
            "they have to be equal: take the tokenizer that the checkpoint was trained with"
        )
    generation = read_json(folder, "generation_config.json") if (folder / "generation_config.json").exists() else {}
    return Source(
        name=name,
        revision=commit,
        adapter=None,
        shape=shape,
        config=portable_config(config, shape),
        tensors=check_tensors(read_tensors(folder), shape, tied=config.get("tie_word_embeddings", True)),
        tokenizer=tokenizer,
        generation=generation,
    )


def check_tensors(tensors: Mapping[str, Tensor], shape: Shape, *, tied: bool) -> dict[str, Tensor]:
    """The tensors, if they are just the network's, without the second name of the tied table."""
    check_tie(tensors, tied=tied)
    expected = parameter_shapes(shape)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name != TIED}
    check_names(expected.keys(), found.keys())
    wrong = [f"{n} is {list(found[n])}, expected {list(expected[n])}" for n in expected if found[n] != expected[n]]
    if wrong:
        raise CheckpointError(f"wrong shapes: {listed(wrong, '; ')}; config.json and weights are of different models")
    return {name: tensors[name] for name in expected}


def check_tie(tensors: Mapping[str, Tensor], *, tied: bool) -> None:
    """Refuses a head with a table of its own: the graph holds one for embedding and head."""
    if not tied and TIED not in tensors:
        raise CheckpointError(
            f"config.json: tie_word_embeddings is {tied!r}, and there is no {TIED}; expected a tied table"
        )
    if TIED in tensors and TABLE in tensors and not torch.equal(tensors[TIED], tensors[TABLE]):
        raise CheckpointError(
            f"{TIED} differs from {TABLE}, expected a tied table; export a checkpoint with tie_word_embeddings"
        )


def check_names(expected: Any, found: Any) -> None:  # both are views of keys
    """Refuses missing and extra tensors."""
    if headless := [name for name in HEAD if name not in found]:
        raise CheckpointError(
            f"the masked-language-model head is not there: found no {listed(headless)}, expected {listed(HEAD)}; "
            "a checkpoint merged or saved by AutoModel loses it: save it by AutoModelForMaskedLM"
        )
    if missing := expected - found:
        raise CheckpointError(f"found no {listed(missing)}, expected {len(expected)} tensors; take a whole checkpoint")
    if extra := found - expected:
        raise CheckpointError(f"found {listed(extra)}, which a ModernBertForMaskedLM of this config.json has not")
