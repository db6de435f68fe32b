"""Continual pre-training by LoRA, as the paper did it: peft on transformers' model, then merged into its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from network import HIDDEN, Denoiser
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import ModernBertForMaskedLM

if TYPE_CHECKING:
    from pathlib import Path

PAPER_RANK, PAPER_WIDTH = 256, 768
RANK = PAPER_RANK * HIDDEN // PAPER_WIDTH
"""The paper's share of the width, a third; alpha equals it there and here, so that the products count as they are."""
TARGETS = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
"""What 14.94 % of trainable parameters amount to at the paper's size: every linear module but the head's."""


class Adapted(nn.Module):
    """Transformers' model of a checkpoint with an adapter, called as our own network is.

    Args:
        folder: The checkpoint of the base.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        base = ModernBertForMaskedLM.from_pretrained(folder, dtype=torch.float32)
        lora = LoraConfig(r=RANK, lora_alpha=RANK, lora_dropout=0.0, target_modules=list(TARGETS), bias="none")
        self.model: PeftModel = get_peft_model(base, lora)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Predict the wanted positions, [batch, seq] ids and a mask of the same shape -> [n, vocab]."""
        logits: Tensor = self.model(input_ids=ids).logits
        return logits[wanted]

    def merged(self) -> Denoiser:
        """Return the base with the adapter's products added; the adapter is used up."""
        merged = self.model.merge_and_unload().state_dict()
        network = Denoiser(len(merged["decoder.bias"]))
        network.load_state_dict({name: merged[name] for name in network.state_dict()})
        return network


def counts(network: nn.Module) -> dict[str, int]:
    """Return how many parameters there are, how many of them are trained, and how many are the table's."""
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    return {
        "all": sum(sizes.values()),
        "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "table": sum(size for name, size in sizes.items() if "tok_embeddings" in name),
    }
