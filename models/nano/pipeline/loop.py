"""Training that can be stopped at any moment and goes on to the very same result.

The steps go in legs. A leg begins from the saved state, with data of its own seed, and ends by saving: what is lost at
a kill is a part of a leg, which is then repeated as it was. The schedule follows the steps, not the clock.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812
from workers import Workers, replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batches import Batch
    from torch import Tensor, nn

WARMUP = 0.1
"""The share of the steps over which the rate rises; then it falls along a cosine, as in the paper's recipe."""
SMOOTHING = 0.98
MOST_NORM = 1.0


class Plan(NamedTuple):
    """What a loop does.

    Attributes:
        steps: The number of steps.
        leg: The number of steps from one save to the next.
        threads: Each computes a batch of its own.
        streams: Returns the endless batches of a seed.
        optimizers: Returns the optimizers of a network, each with its highest rate.
    """

    steps: int
    leg: int
    threads: int
    streams: Callable[[int], Iterator[Batch]]
    optimizers: Callable[[nn.Module, Workers], list[torch.optim.Optimizer]]


def rate(done: float) -> float:
    """Return the factor of the learning rate after a share of the steps: linear warm-up, then a cosine."""
    return done / WARMUP if done < WARMUP else (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2


def gradient(network: nn.Module, batches: Iterator[Batch]) -> float:
    """Leave the gradient of the next batch's loss in a network, and return the loss, in nats a token."""
    batch = next(batches)
    logits = network(batch.ids, batch.masked)
    each = F.cross_entropy(logits, batch.targets[batch.masked], reduction="none") * batch.weights[batch.masked]
    loss = each.sum() / batch.lengths.sum()
    network.zero_grad()
    loss.backward()
    return loss.item()


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class Loop:
    """The training of one stage.

    Attributes:
        step: Steps done.
        loss: Smoothed, in nats a token.
        wall: Seconds by the clock.
        cpu: Seconds of processors, which say more where others use the machine too.

    Args:
        network: Called with ids and what is masked, returns logits [n, vocab].
        plan: What is to be done.
        file: Where the state is saved.
    """

    def __init__(self, network: nn.Module, plan: Plan, file: Path) -> None:
        self.network, self.plan, self.file = network, plan, file
        self.step, self.loss, self.wall, self.cpu = 0, 0.0, 0.0, 0.0
        self.workers = Workers(plan.threads)
        self.replicas = [replica(network) for _ in range(plan.threads)]
        self.optimizers = plan.optimizers(network, self.workers)
        self.rates = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]
        if file.exists():
            self._load()

    def run(self) -> None:
        """Go on to the last step."""
        while self.step < self.plan.steps:
            wall, cpu = time.monotonic(), time.process_time()
            self._leg()
            self.wall += time.monotonic() - wall
            self.cpu += time.process_time() - cpu
            self._save()
            done = f"step {self.step} of {self.plan.steps}"
            print(f"  {done}, loss {self.loss:.4f}, {self.wall / 60:.1f} minutes", flush=True)

    def _leg(self) -> None:
        batches = [self.plan.streams(self.step * self.plan.threads + i) for i in range(self.plan.threads)]
        for _ in range(min(self.plan.leg, self.plan.steps - self.step)):
            losses = self.workers.map(gradient, self.replicas, batches)
            self._update()
            self.step += 1
            self.loss += (sum(losses) / len(losses) - self.loss) * max(1 - SMOOTHING, 1 / self.step)

    def _update(self) -> None:
        parameters = trainable(self.network)
        for parameter, *copies in zip(parameters, *map(trainable, self.replicas), strict=True):
            parameter.grad = torch.stack([copy.grad for copy in copies]).mean(0)
        torch.nn.utils.clip_grad_norm_(parameters, MOST_NORM)
        factor = rate((self.step + 1) / self.plan.steps)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, highest in zip(groups, self.rates, strict=True):
            group["lr"] = highest * factor
        for optimizer in self.optimizers:
            optimizer.step()

    def _state(self) -> list[Tensor]:
        return [parameter.data for parameter in trainable(self.network)]

    def _save(self) -> None:
        """Save in a draft that then replaces the file."""
        state = {
            "parameters": self._state(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scalars": {name: getattr(self, name) for name in ("step", "loss", "wall", "cpu")},
        }
        draft = self.file.with_suffix(".draft")
        torch.save(state, draft)
        draft.replace(self.file)

    def _load(self) -> None:
        state = torch.load(self.file, weights_only=True)
        for mine, saved in zip(self._state(), state["parameters"], strict=True):
            mine.copy_(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["scalars"].items():
            setattr(self, name, value)
        print(f"  going on from step {self.step}", flush=True)
