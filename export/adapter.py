"""A peft LoRA adapter, merged into the tensors of its base."""

import math
import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from diffutron_ort.errors import CheckpointError

from .weights import listed, read_json, stored

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

READ = ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "bias", "init_lora_weights")
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


def merge_adapter(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """W + (B A) alpha / r for every matrix that the adapter has one for (LoRA, arXiv 2106.09685, section 4.1).

    Args:
        tensors: float32, by their names in the checkpoint.
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: the adapter is not there, of another kind, or of another base.
    """
    config = read_config(folder)
    pairs = read_pairs(folder, config["r"])
    check_targets(config.get("target_modules"), [n for n, t in tensors.items() if t.ndim == 2], pairs.keys())
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    return {
        name: tensor + delta(name, tensor, pairs, scale) if name in pairs else tensor
        for name, tensor in tensors.items()
    }


def delta(name: str, tensor: Tensor, pairs: Mapping[str, Mapping[str, Tensor]], scale: float) -> Tensor:
    """What the adapter adds to one matrix [out, in]."""
    a, b = pairs[name]["A"], pairs[name]["B"]  # [r, in], [out, r]
    if (b.shape[0], a.shape[1]) != tuple(tensor.shape):
        raise CheckpointError(
            f"adapter: its product for {name} is {[b.shape[0], a.shape[1]]}, expected {list(tensor.shape)}; "
            "take the adapter's own base"
        )
    return (b @ a) * scale


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, if it asks for nothing but plain LoRA."""
    if not folder.is_dir():
        raise CheckpointError(f"adapter {str(folder)!r} is no directory; give the folder that holds {CONFIG}")
    config = read_json(folder, CONFIG)
    if (kind := config.get("peft_type")) != "LORA":
        raise CheckpointError(
            f"adapter: peft_type is {kind!r}, and only 'LORA' can be merged; merge it with peft first"
        )
    unsupported = sorted(name for name, value in config.items() if value and name not in READ + NO_MATTER)
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if config.get("init_lora_weights") not in PLAIN_STARTS:
        unsupported.append("init_lora_weights")
    if unsupported:
        values = ", ".join(f"{name}={config[name]!r}" for name in unsupported)
        raise CheckpointError(f"adapter: {values} is not supported, only plain LoRA is; merge it with peft first")
    check_scale(config)
    return config


def check_scale(config: Mapping[str, Any]) -> None:
    """Refuses a rank or an alpha that is no positive number."""
    for name, kinds in {"r": int, "lora_alpha": int | float}.items():
        value = config.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < math.inf:
            raise CheckpointError(f"adapter: {name} is {value!r}, expected a positive number; take an unaltered copy")


def read_pairs(folder: Path, rank: int) -> dict[str, dict[str, Tensor]]:
    """For the name of each adapted matrix, its factors A [rank, in] and B [out, rank]."""
    if not (folder / WEIGHTS).exists():
        found = f"{PICKLE}, which is a pickle and never opened" if (folder / PICKLE).exists() else "no weights"
        raise CheckpointError(f"adapter {folder.name} has {found}; expected {WEIGHTS}: save it anew with peft")
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored(folder / WEIGHTS):
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if match is None:
            raise CheckpointError(f"adapter: found {name}, expected lora_A and lora_B alone; merge it with peft first")
        module, factor = match.groups()
        if tensor.ndim != 2 or tensor.shape["AB".index(factor)] != rank:
            raise CheckpointError(f"adapter: {name} is {list(tensor.shape)}, expected rank {rank} as {CONFIG} says")
        pairs.setdefault(f"{module}.weight", {})[factor] = tensor
    if halves := [name for name, pair in pairs.items() if len(pair) < 2]:
        raise CheckpointError(f"adapter: {listed(halves)} has one factor of two; take an unaltered copy")
    return pairs


def check_targets(targets: str | list[str] | None, matrices: Iterable[str], adapted: Set[str]) -> None:
    """Refuses factors without their matrix, and targets without their factors.

    Args:
        targets: one string is a pattern, each of a list is an ending, as in peft.
        matrices: names of the base's matrices.
        adapted: names of those there are factors for.
    """
    if stray := adapted - set(matrices):
        raise CheckpointError(f"adapter: the base has no {listed(stray)}; take the adapter's own base")
    patterns = [targets] if isinstance(targets, str) else [rf"(.+\.)?{re.escape(ending)}" for ending in targets or []]
    for pattern in patterns:
        meant = {name for name in matrices if re.fullmatch(pattern, name.removesuffix(".weight"))}
        if not meant or meant - adapted:
            raise CheckpointError(
                f"adapter: target_modules is {targets!r}, and there are no factors for "
                f"{listed(meant - adapted) if meant else pattern}; take an unaltered copy"
            )
    if not patterns or not adapted:
        raise CheckpointError(f"adapter: target_modules is {targets!r}, with {len(adapted)} factors; expected some")
