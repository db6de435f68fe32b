"""Merges a peft LoRA adapter into the tensors of its base."""

import math
import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffutron_ort.errors import CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields, parse_object, read_bytes
from diffutron_ort_export.checkpoint.messages import listed, printable, shown
from diffutron_ort_export.checkpoint.time_limit import run_limited
from diffutron_ort_export.checkpoint.weights import Stored, load, read_header, unwrapped

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


def merge_adapter(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return the tensors with W + (B A) alpha / r for every adapted matrix (LoRA, arXiv 2106.09685, section 4.1).

    Args:
        tensors: float32, by their names in the checkpoint.
        folder: The folder with adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: The adapter is missing, of another kind, or of another base.
    """
    lora = read_config(folder)
    stored = find_factors(folder, lora.rank)
    check_targets(lora, {n for n, t in tensors.items() if t.ndim == 2}, stored.keys())
    return {
        name: merged(name, tensor, load(stored[name]), lora.scale) if name in stored else tensor
        for name, tensor in tensors.items()
    }


def merged(name: str, tensor: Tensor, factors: Mapping[str, Tensor], scale: float) -> Tensor:
    """Return a matrix [out, in] plus the adapter's product."""
    a, b = factors["A"], factors["B"]  # [r, in], [out, r]
    if (b.shape[0], a.shape[1]) != tuple(tensor.shape):
        raise CheckpointError(
            f"adapter: the product for {name} is {[b.shape[0], a.shape[1]]}, expected {list(tensor.shape)}; "
            "take the base that the adapter was trained on"
        )
    whole = tensor + (b @ a) * scale
    if not torch.isfinite(whole).all():
        raise CheckpointError(f"adapter: {name} is not finite after the merge; take an unaltered copy")
    return whole


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


def find_factors(folder: Path, rank: int) -> dict[str, dict[str, Stored]]:
    """Return the stored factors A [rank, in] and B [out, rank] of each adapted matrix, by the matrix's name."""
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
    return pairs


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
