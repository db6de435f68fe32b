"""What a forked child must not destroy.

ONNX Runtime's threads are not there in a forked child, and a session that is destroyed there waits for them for ever.
So a child keeps what its parent had open, to its end.
"""

import ctypes
import os
from typing import Any, TypeVar
from weakref import WeakSet

Thing = TypeVar("Thing")

_kept: WeakSet[Any] = WeakSet()
_count = 0


def keep_in_children(thing: Thing) -> Thing:
    """Return `thing`, which will live to the end of every process that is forked while it is there."""
    _kept.add(thing)
    return thing


def fork_count() -> int:
    """Return how many forks lie between the process that first imported this module and this one."""
    return _count


def _after_fork() -> None:
    """Take a reference that nobody gives back, so that the interpreter's end destroys nothing either."""
    global _count
    _count += 1
    for thing in list(_kept):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
