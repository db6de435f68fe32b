"""Make glibc return memory to the system. With another C library, nothing happens."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# mallopt: the bytes of a block, and those free at the heap's end, from which free memory is returned at once.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
MIB = 2**20


@contextmanager
def returning_large_blocks() -> Iterator[None]:
    """Let glibc return blocks of 4 MB or more to the system as soon as they are freed.

    Left alone, it raises that size to the largest block freed so far, and keeps smaller ones: a graph's temporary parts
    of the token table stay resident while the next are made. In int8, the real model's loading peaks at 488 MB instead
    of 545 to 809, and its export at 1.28 GB instead of 1.56. Afterwards the sizes are those at which glibc stops
    raising them, unless the user has set others.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        yield
        return
    _mallopt(MMAP_THRESHOLD, 4 * MIB)
    try:
        yield
    finally:
        _mallopt(MMAP_THRESHOLD, 32 * MIB)
        _mallopt(TRIM_THRESHOLD, 64 * MIB)


def return_memory() -> None:
    """Return to the system what has been freed: glibc keeps it, 120 MB of a tokenizer with 256,000 pieces."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none by this name
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt(parameter: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none by this name
        ctypes.CDLL(None).mallopt(parameter, value)
