"""A model that a test holds between its passes."""

import threading

from tests.serve.serving import SECONDS, until


class Held:
    """A model whose passes wait until they are let go; it counts the sequences of each."""

    def __init__(self, forward, batch_invariant=True):
        self.forward, self.batch_invariant = forward, batch_invariant
        self.passes = []
        self._go = threading.Semaphore(0)

    def __call__(self, given):
        self.passes.append(len(given.input_ids))
        assert self._go.acquire(timeout=2 * SECONDS)
        return self.forward(given)

    def let_go(self, passes=10_000):
        self._go.release(passes)

    async def in_pass(self, number):
        """Wait until the pass of a number, from 1, has begun."""
        await until(lambda: len(self.passes) >= number)
