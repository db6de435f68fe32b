"""`diffutron-ort serve` with a model that waits in each pass until a gate is open, which is a file of the test's."""

import os
import sys
import time
from pathlib import Path

GATE = "DIFFUTRON_TEST_GATE"  # the environment's name for the file's path
PATIENCE = 60  # seconds that a process may stand still, and nobody takes it for dead or cuts its answers off


class Gated:
    """A model whose passes wait: with no gate at all, it hangs in C and without Python's lock."""

    def __init__(self, forward):
        self._forward = forward

    def __getattr__(self, name):
        return getattr(self._forward, name)

    def __call__(self, given):
        gate = Path(os.environ[GATE])
        while not gate.exists():
            time.sleep(0.01)
        return self._forward(given)


def gated(loader):
    """Return a loader like another one, of a model that waits."""

    def load(settings, say):
        model = loader(settings, say)()
        model.forward = Gated(model.forward)
        return model

    return lambda settings, say: lambda: load(settings, say)


if __name__ in ("__main__", "__mp_main__"):  # this process, and those that it starts, which import this file
    from diffutron_ort.serve.processes import http_server, lifecycle, supervisor

    lifecycle.loader = gated(lifecycle.loader)
    http_server.LAST = supervisor.SILENCE = PATIENCE

if __name__ == "__main__":
    from diffutron_ort.cli.main import main

    sys.exit(main(["serve", *sys.argv[1:]]))
