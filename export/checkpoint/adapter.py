"""A peft LoRA adapter, merged into the tensors of its base."""

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

NO_MATTER = (
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
"""Settings that tell of the training, or refine one that has to be off. Any other has to be off itself."""

PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that leave the base as it was; PiSSA, OLoRA, CorDA and LoftQ change it."""

MOST_RANK, ALPHAS = 2**16, (1e-6, 1e6)
"""The largest rank, and the least and the largest alpha."""

MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
json.dump([name for name in names if re.fullmatch(pattern, name)], sys.stdout)
"""


@dataclass(frozen=True)
class Recipe:
    """What an adapter_config.json asks for.

    Attributes:
        rank: Of the products.
        scale: What the products are multiplied by.
        targets: The modules that are adapted: a pattern, or endings.
        excluded: Those of them that are not, in the same way; empty is none.
    """

    rank: int
    scale: float
    targets: str | list[str]
    excluded: str | list[str]


def merge_adapter(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return W + (B A) alpha / r for every matrix that the adapter has one for (LoRA, arXiv 2106.09685, section 4.1).

    Args:
        tensors: float32, by their names in the checkpoint.
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: The adapter is not there, of another kind, or of another base.
    """
    recipe = read_config(folder)
    stored = find_factors(folder, recipe.rank)
    check_targets(recipe, {n for n, t in tensors.items() if t.ndim == 2}, stored.keys())
    return {
        name: merged(name, tensor, load(stored[name]), recipe.scale) if name in stored else tensor
        for name, tensor in tensors.items()
    }


def merged(name: str, tensor: Tensor, factors: Mapping[str, Tensor], scale: float) -> Tensor:
    """Return one matrix [out, in] with what the adapter adds to it."""
    a, b = factors["A"], factors["B"]  # [r, in], [out, r]
    if (b.shape[0], a.shape[1]) != tuple(tensor.shape):
        raise CheckpointError(
            f"adapter: its product for {name} is {[b.shape[0], a.shape[1]]}, expected {list(tensor.shape)}; "
            "take the adapter's own base"
        )
    whole = tensor + (b @ a) * scale
    if not torch.isfinite(whole).all():
        raise CheckpointError(f"adapter: {name} becomes infinite with it; take an unaltered copy")
    return whole


def read_config(folder: Path) -> Recipe:
    """Return what adapter_config.json asks for, if it is nothing but plain LoRA."""
    if not os.path.isdir(folder):  # noqa: PTH112  # which raises nothing
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
    return Recipe(rank, scale, modules(config, "target_modules"), modules(config, "exclude_modules"))


def check_plain(config: Fields) -> None:
    """Refuse settings that ask for more than plain LoRA."""
    unsupported = sorted(name for name, value in config.values.items() if value and name not in READ + NO_MATTER)
    if config.values.get("bias") not in ("none", None):
        unsupported.append("bias")
    if config.values.get("init_lora_weights") not in PLAIN_STARTS:
        unsupported.append("init_lora_weights")
    if unsupported:
        values = listed([f"{name}={shown(config.values[name])}" for name in unsupported])
        raise CheckpointError(f"adapter: {values} is not supported, only plain LoRA is; merge it with peft first")


def modules(config: Fields, name: str) -> str | list[str]:
    """Return a setting that names modules: one string is a pattern, each of a list is an ending, as in peft."""
    if name not in config:
        return []
    return config.text(name) if isinstance(config.values[name], str) else config.texts(name)


def find_factors(folder: Path, rank: int) -> dict[str, dict[str, Stored]]:
    """Return where, for the name of each adapted matrix, its factors A [rank, in] and B [out, rank] lie."""
    if not os.path.lexists(folder / WEIGHTS):
        found = f"{PICKLE}, which is a pickle and never opened" if (folder / PICKLE).exists() else "no weights"
        raise CheckpointError(f"adapter {folder.name} has {found}; expected {WEIGHTS}: save it anew with peft")
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
            raise CheckpointError(f"adapter: {printable(name)} is there under two names; take an unaltered copy")
    if halves := [name for name, pair in pairs.items() if len(pair) < 2]:
        raise CheckpointError(f"adapter: {listed(halves)} has one factor of two; take an unaltered copy")
    return pairs


def check_targets(recipe: Recipe, matrices: Set[str], adapted: Set[str]) -> None:
    """Refuse factors without their matrix, targets without their factors, and factors of what is no target.

    Args:
        recipe: What is to be adapted.
        matrices: Names of the base's matrices.
        adapted: Names of those there are factors for.
    """
    if stray := adapted - matrices:
        raise CheckpointError(f"adapter: the base has no {listed(stray)}; take the adapter's own base")
    if not recipe.targets or not adapted:
        raise CheckpointError(
            f"adapter: target_modules is {shown(recipe.targets or None)}, with {len(adapted)} factors; expected some"
        )
    meant = chosen(recipe.targets, matrices) - chosen(recipe.excluded, matrices)
    idle = [] if isinstance(recipe.targets, str) else [e for e in recipe.targets if not chosen([e], matrices)]
    if not meant or meant - adapted or idle:
        raise CheckpointError(
            f"adapter: target_modules is {shown(recipe.targets)}, and there are no factors for "
            f"{listed(meant - adapted or idle or [str(recipe.targets)])}; take an unaltered copy"
        )
    if adapted - meant:
        raise CheckpointError(
            f"adapter: there are factors for {listed(adapted - meant)}, which target_modules "
            f"{shown(recipe.targets)} without exclude_modules does not name; take an unaltered copy"
        )


def chosen(modules: str | list[str], matrices: Set[str]) -> set[str]:
    """Return the matrices that a setting means: one string is a pattern, each of a list is an ending, as in peft.

    The pattern is a stranger's regular expression, which may take for ever, so it is tried in a process of its own.
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
