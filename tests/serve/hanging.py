"""A server whose model hangs in its first pass, in C and without Python's lock, or with it."""

import sys
import time

from diffutron_ort import Diffutron
from diffutron_ort.serve.processes import lifecycle
from diffutron_ort.serve.settings import Settings

FOREVER = 3600


class Hanging:
    """A model that never answers."""

    batch_invariant = True

    def __init__(self, forward):
        self._forward = forward

    def __getattr__(self, name):
        return getattr(self._forward, name)

    def __call__(self, given):
        time.sleep(FOREVER)


def load():
    model = Diffutron.from_pretrained()
    model.forward = Hanging(model.forward)
    return model


lifecycle.loader = lambda settings, say: load  # in the processes that it starts, too: they import this file

if __name__ == "__main__":
    sys.exit(lifecycle.serve(Settings(port=0, pass_timeout=1.0, processes=int(sys.argv[-1]))))
