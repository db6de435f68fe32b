"""Threads that each run one core's share of a step.

Two threads inside every operation wait for each other about a thousand times per step, and on a busy machine each wait
costs a time slice: steps were measured to take ten times as long. One thread per batch waits twice per step.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Result = TypeVar("Result")


class Workers:
    """A pool of threads whose operations are single-threaded."""

    def __init__(self, count: int) -> None:
        self.count = count
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
        """Call the function on each set of arguments, at once."""
        return list(self._pool.map(function, *arguments))


def replica(network: nn.Module) -> nn.Module:
    """Return a network that shares the parameters of another but has gradients of its own."""
    copy = deepcopy(network)
    for mine, theirs in zip(copy.parameters(), network.parameters(), strict=True):
        mine.data = theirs.data
    return copy
