"""Writes and reads the checkpoint in the Hugging Face layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from network import CONFIG, Denoiser
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

CONTEXT = 256
TOKENIZER_CONFIG = {
    "bos_token": "<bos>",
    "cls_token": "<bos>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
    "model_max_length": CONTEXT,
    "pad_token": "<pad>",
    "padding_side": "right",
    "sep_token": "<eos>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
}
GENERATION_CONFIG = {"repetition_penalty": 1.0, "temperature": 0.0}
"""Questions have one right answer, and lists repeat their commas."""


def write(network: Denoiser, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights in bfloat16, config and tokenizer; the decoder's weight is the table and is not stored."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = CONFIG | {"vocab_size": tokenizer.get_vocab_size()}
    for name, content in (
        ("config", config),
        ("generation_config", GENERATION_CONFIG),
        ("tokenizer_config", TOKENIZER_CONFIG),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def read(folder: Path) -> Denoiser:
    """Read the weights back, as float32."""
    network = Denoiser(json.loads((folder / "config.json").read_text())["vocab_size"])
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    return network


def difference(folder: Path, length: int = 128) -> float:
    """Return the largest difference between this network's logits and those of transformers' ModernBertForMaskedLM."""
    from transformers import ModernBertForMaskedLM

    network = read(folder)
    ids = torch.randint(7, network.decoder.bias.numel(), (2, length), generator=torch.Generator().manual_seed(0))
    reference = ModernBertForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        ours = network(ids, torch.ones_like(ids, dtype=torch.bool))
        return (reference(ids).logits.flatten(0, 1) - ours).abs().max().item()
