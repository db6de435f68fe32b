"""Trains a stage: its network, its batches, its optimizers, and the checkpoint and adapter that it leaves."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import checkpoint
import torch
from batches import Batches
from loop import Loop, Plan, trainable
from lora import Adapted, counts
from network import Denoiser
from texts import Texts
from tokenizer import build
from train import optimizers as muon_and_adam

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batches import Batch
    from stages import Stage
    from torch import nn
    from workers import Workers

TABLE_RATE = 0.7
"""The rate of the table where all begins, as a share of the matrices' own."""
DATA_SEEDS = 10**9
"""The number of seeds of data for each seed of a run."""
tokenizer = cache(build)


class Settings(NamedTuple):
    """What holds for all stages of a run.

    Attributes:
        run: The folder that holds a folder for each stage.
        scale: What the steps of every stage are multiplied by.
        leg: Steps from one save to the next.
        threads: Each computes a batch of its own.
        seed: Of the first weights and of all data.
    """

    run: Path
    scale: float
    leg: int
    threads: int
    seed: int


class Questions(Batches):
    """Endless batches of questions, without plain sentences."""

    sentences = 0.0


def streams(stage: Stage, settings: Settings, seed: int) -> Iterator[Batch]:
    """Return the batches of a stage; every seed has data of its own."""
    size, seed = stage.rows // settings.threads, settings.seed * DATA_SEEDS + seed
    if stage.reads == "sentences":
        return Texts(tokenizer(), size, seed, stage.shares)
    batches = Questions(tokenizer(), size, seed)
    batches.shares = [stage.shares.get(kind, 0.0) for kind in batches.names]
    return batches


def first_network(stage: Stage, settings: Settings) -> nn.Module:
    """Return what a stage begins with."""
    torch.manual_seed(settings.seed)
    if stage.after is None:
        return Denoiser(tokenizer().get_vocab_size())
    before = settings.run / stage.after / "checkpoint"
    return Adapted(before) if stage.learns == "adapter" else checkpoint.read(before)


def optimizers(stage: Stage, network: nn.Module, workers: Workers) -> list[torch.optim.Optimizer]:
    """Return nano's own pair of optimizers for a beginning, and AdamW, the paper's, for what goes on."""
    if isinstance(network, Denoiser) and stage.learns == "all":
        return muon_and_adam(network, stage.rate, TABLE_RATE * stage.rate, workers)
    return [torch.optim.AdamW(trainable(network), lr=stage.rate, weight_decay=0.0, foreach=True)]


def leave(network: nn.Module, folder: Path) -> None:
    """Write a stage's checkpoint; of an adapted network the adapter, too, and the checkpoint with it merged."""
    if isinstance(network, Adapted):
        network.model.save_pretrained(folder / "adapter")
        network = network.merged()
    checkpoint.write(network, tokenizer(), folder / "checkpoint")


def train(stage: Stage, settings: Settings) -> dict[str, Any]:
    """Train a stage, or go on with it, and return what it took."""
    folder = settings.run / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    network = first_network(stage, settings)
    parameters = counts(network)
    plan = Plan(
        steps=max(1, round(stage.steps * settings.scale)),
        leg=settings.leg,
        threads=settings.threads,
        streams=lambda seed: streams(stage, settings, seed),
        optimizers=lambda network, workers: optimizers(stage, network, workers),
    )
    loop = Loop(network, plan, folder / "state.pt")
    loop.run()
    leave(network, folder)
    spent = {"steps": loop.step, "loss": loop.loss, "wall_minutes": loop.wall / 60, "cpu_minutes": loop.cpu / 60}
    return spent | {"parameters": parameters}
