"""Muon in float32 for the hidden matrices: momentum with its singular values made equal.

torch.optim.Muon orthogonalises in bfloat16, which is three times slower than float32 on processors without bfloat16
arithmetic. This one also orthogonalises matrices of the same shape together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workers import Workers

# Polynomials of the Newton-Schulz iteration (Keller Jordan, Muon).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(x: Tensor, steps: int) -> Tensor:
    """Bring the singular values of tall matrices near 1, [n, rows, columns] with rows >= columns."""
    a, b, c = COEFFICIENTS
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x.mT @ x
        x = a * x + x @ (b * gram + c * gram @ gram)
    return x


class Muon(torch.optim.Optimizer):
    """Muon for matrices that may be several in one (Wqkv is three, Wi is two).

    Args:
        parameters: Pairs of a matrix and how many matrices are stacked in its rows.
        lr: Step size, comparable with AdamW's.
        momentum: Nesterov momentum.
        decay: Decoupled weight decay.
        workers: Threads, each of which runs the iterations of one stack.
        steps: Newton-Schulz iterations; three did as well as five, and they are a fifth of the time of a step.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[Tensor, int]],
        workers: Workers,
        lr: float = 2e-3,
        momentum: float = 0.95,
        decay: float = 0.01,
        steps: int = 3,
    ) -> None:
        groups = [{"params": [matrix], "parts": parts} for matrix, parts in parameters]
        self.workers = workers
        super().__init__(groups, {"lr": lr, "momentum": momentum, "decay": decay, "steps": steps})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix."""
        shapes: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for update, view in self._parts():
            shapes[tuple(update.shape)].append((update, view))
        group = self.param_groups[0]
        for (rows, _), pairs in shapes.items():
            stacks = torch.stack([update for update, _ in pairs]).chunk(self.workers.count)
            directions = torch.cat(self.workers.map(lambda stack: orthogonalise(stack, group["steps"]), stacks))
            # 0.2 sqrt(rows) gives an update the root mean square of AdamW's (Moonlight).
            for direction, (_, view) in zip(directions, pairs, strict=True):
                view.mul_(1 - group["lr"] * group["decay"]).add_(direction, alpha=-group["lr"] * 0.2 * rows**0.5)

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the updates and the matrices that they change, as tall views."""
        for group in self.param_groups:
            matrix = group["params"][0]
            momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            momentum.lerp_(matrix.grad, 1 - group["momentum"])
            update = matrix.grad.lerp(momentum, group["momentum"])
            for part, view in zip(update.chunk(group["parts"]), matrix.chunk(group["parts"]), strict=True):
                yield (part, view) if part.shape[0] >= part.shape[1] else (part.mT, view.mT)
