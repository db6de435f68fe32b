"""Merges a peft LoRA adapter into the weights of its base."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields, parse_object, read_bytes
from diffutron_ort_export.checkpoint.messages import listed, printable, shown
from diffutron_ort_export.checkpoint.time_limit import run_limited
from diffutron_ort_export.checkpoint.weights import (
    Stored,
    Weights,
    check_finite,
    check_readable,
    chunks_of,
    read_header,
    unwrapped,
)

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

READ = ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "bias", "init_lora_weights")
"""Settings that the merge reads."""

IGNORED = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
)
"""Settings that describe the training, or refine a setting that has to be off. All others have to be off."""

PLAIN_INITS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initializations that leave the base unchanged; PiSSA, OLoRA, CorDA and LoftQ change it."""

MOST_RANK, ALPHAS = 2**16, (1e-6, 1e6)
"""The largest rank, and the least and the largest alpha."""

MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
json.dump([name for name in names if re.fullmatch(pattern, name)], sys.stdout)
"""


@dataclass(frozen=True)
class LoraConfig:
    """The settings of an adapter_config.json that the merge depends on.

    Attributes:
        rank: The rank of the products.
        scale: The factor that the products are multiplied by.
        targets: The adapted modules: a pattern, or the endings of their names.
        excluded: Exceptions to the targets, in the same form; empty means none.
    """

    rank: int
    scale: float
    targets: str | list[str]
    excluded: str | list[str]


@dataclass(frozen=True)
class Factors:
    """The stored factors of one adapted matrix [out, in].

    Attributes:
        a: [r, in].
        b: [out, r].
    """

    a: Stored
    b: Stored

    @property
    def shape(self) -> tuple[int, int]:
        """The shape [out, in] of the product."""
        return self.b.shape[0], self.a.shape[1]

    def product(self, first: int, end: int) -> NDArray[np.float32]:
        """Return the rows [first, end) of the product B A."""
        return self.b.rows(first, end) @ self.a.rows(0, self.a.shape[0])


@dataclass(frozen=True)
class MergedWeights:
    """The weights of a base with an adapter, W + (B A) scale for every adapted matrix (LoRA, arXiv 2106.09685, 4.1).

    Attributes:
        base: The base's weights.
        factors: The factors of the adapted matrices, by the matrix's name.
        scale: What the products are multiplied by.
    """

    base: Weights
    factors: Mapping[str, Factors]
    scale: float

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor, by its name in the checkpoint."""
        return self.base.shapes

    def rows(self, name: str, first: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Return rows of a tensor; see `Weights`."""
        rows = self.base.rows(name, first, end)
        if name not in self.factors:
            return rows
        with np.errstate(over="ignore", invalid="ignore"):
            rows += self.factors[name].product(first, first + len(rows)) * np.float32(self.scale)
        if not np.isfinite(rows).all():
            raise CheckpointError(f"adapter: {name} is not finite after the merge; take an unaltered copy")
        return rows

    def chunks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of a tensor; see `Weights`."""
        return chunks_of(self, name)


def merge_adapter(weights: Weights, folder: Path) -> MergedWeights:
    """Return weights with an adapter.

    Args:
        weights: The base's weights.
        folder: The folder with adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: The adapter is missing, of another kind, or of another base, or not finite.
    """
    lora = read_config(folder)
    factors = find_factors(folder, lora.rank)
    check_targets(lora, {name for name, shape in weights.shapes.items() if len(shape) == 2}, factors.keys())
    check_readable(stored for pair in factors.values() for stored in (pair.a, pair.b))
    for name, pair in factors.items():
        check_product(name, pair.shape, weights.shapes[name])
    merged = MergedWeights(weights, factors, lora.scale)
    check_finite(merged, factors)
    return merged


def check_product(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Check that the product of two factors has the shape of the matrix."""
    if shape != expected:
        raise CheckpointError(
            f"adapter: the product for {name} is {list(shape)}, expected {list(expected)}; "
            "take the base that the adapter was trained on"
        )


def read_config(folder: Path) -> LoraConfig:
    """Return the settings in adapter_config.json, if they describe plain LoRA."""
    if not os.path.isdir(folder):  # noqa: PTH112  # which does not raise
        raise CheckpointError(
            f"adapter {printable(str(folder))!r} is not a directory; give the folder that holds {CONFIG}"
        )
    config = parse_object(read_bytes(folder / CONFIG, CHECKPOINT), f"adapter: {CONFIG}", CHECKPOINT)
    if (kind := config.values.get("peft_type")) != "LORA":
        raise CheckpointError(
            f"adapter: peft_type is {shown(kind)}, and only 'LORA' can be merged; merge it with peft first"
        )
    check_plain(config)
    rank, alpha = config.integer("r", 1, MOST_RANK), config.number("lora_alpha", *ALPHAS)
    rescaled = config.boolean("use_rslora") if "use_rslora" in config else False
    scale = alpha / (math.sqrt(rank) if rescaled else rank)
    return LoraConfig(rank, scale, modules(config, "target_modules"), modules(config, "exclude_modules"))


def check_plain(config: Fields) -> None:
    """Check that no setting goes beyond plain LoRA."""
    unsupported = sorted(name for name, value in config.values.items() if value and name not in READ + IGNORED)
    if config.values.get("bias") not in ("none", None):
        unsupported.append("bias")
    if config.values.get("init_lora_weights") not in PLAIN_INITS:
        unsupported.append("init_lora_weights")
    if unsupported:
        values = listed([f"{name}={shown(config.values[name])}" for name in unsupported])
        raise CheckpointError(f"adapter: {values} is not supported, only plain LoRA is; merge it with peft first")


def modules(config: Fields, name: str) -> str | list[str]:
    """Return a setting that names modules: a string is a pattern, a list holds endings of names, as in peft."""
    if name not in config:
        return []
    return config.text(name) if isinstance(config.values[name], str) else config.texts(name)


def find_factors(folder: Path, rank: int) -> dict[str, Factors]:
    """Return the stored factors of each adapted matrix, by the matrix's name."""
    if not os.path.lexists(folder / WEIGHTS):
        found = f"{PICKLE}, which is a pickle and never opened" if (folder / PICKLE).exists() else "no weights"
        raise CheckpointError(f"adapter {folder.name} has {found}; expected {WEIGHTS}: save it again with peft")
    pairs: dict[str, dict[str, Stored]] = {}
    for name, tensor in read_header(folder / WEIGHTS).items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if match is None:
            raise CheckpointError(
                f"adapter: found {printable(name)}, expected lora_A and lora_B alone; merge it with peft first"
            )
        module, factor = unwrapped(match[1]), match[2]
        if len(tensor.shape) != 2 or tensor.shape["AB".index(factor)] != rank:
            raise CheckpointError(
                f"adapter: {printable(name)} is {list(tensor.shape)}, expected rank {rank} as {CONFIG} says"
            )
        if pairs.setdefault(f"{module}.weight", {}).setdefault(factor, tensor) != tensor:
            raise CheckpointError(f"adapter: {printable(name)} occurs under two names; take an unaltered copy")
    if incomplete := [name for name, pair in pairs.items() if len(pair) < 2]:
        raise CheckpointError(f"adapter: {listed(incomplete)} has only one of its two factors; take an unaltered copy")
    return {name: Factors(pair["A"], pair["B"]) for name, pair in pairs.items()}


def check_targets(lora: LoraConfig, matrices: Set[str], adapted: Set[str]) -> None:
    """Check that every factor has a matrix, every target has factors, and every adapted matrix is a target.

    Args:
        lora: The adapter's settings.
        matrices: The names of the base's matrices.
        adapted: The names of the matrices that have factors.
    """
    if stray := adapted - matrices:
        raise CheckpointError(
            f"adapter: the base has no {listed(stray)}; take the base that the adapter was trained on"
        )
    if not lora.targets or not adapted:
        raise CheckpointError(
            f"adapter: target_modules is {shown(lora.targets or None)}, and there are {len(adapted)} factors; expected "
            "at least one of each"
        )
    meant = chosen(lora.targets, matrices) - chosen(lora.excluded, matrices)
    unused = [] if isinstance(lora.targets, str) else [e for e in lora.targets if not chosen([e], matrices)]
    if not meant or meant - adapted or unused:
        raise CheckpointError(
            f"adapter: target_modules is {shown(lora.targets)}, and there are no factors for "
            f"{listed(meant - adapted or unused or [str(lora.targets)])}; take an unaltered copy"
        )
    if adapted - meant:
        raise CheckpointError(
            f"adapter: there are factors for {listed(adapted - meant)}, which target_modules "
            f"{shown(lora.targets)} and exclude_modules leave out; take an unaltered copy"
        )


def chosen(modules: str | list[str], matrices: Set[str]) -> set[str]:
    """Return the matrices that a setting selects: a string is a pattern, a list holds endings of names, as in peft.

    The pattern is an untrusted regular expression, which may take forever, so it is matched in a process of its own.
    """
    names = sorted(name.removesuffix(".weight") for name in matrices)
    if not isinstance(modules, str):
        endings = tuple(f".{ending}" for ending in modules)
        return {f"{name}.weight" for name in names if f".{name}".endswith(endings)}
    try:
        return {f"{name}.weight" for name in run_limited(MATCH, [modules, names])}
    except (TimeoutError, ValueError) as error:
        raise CheckpointError(
            f"adapter: the pattern {shown(modules)}: {printable(str(error))}; take an unaltered copy"
        ) from error
