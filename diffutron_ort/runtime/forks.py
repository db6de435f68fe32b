"""Keep a forked child from destroying what its parent has open.

A forked child lacks ONNX Runtime's threads, and destroying a session there waits for them forever. So the child keeps a
reference to every open session, and never releases it.
"""

import ctypes
import os
from typing import Any, TypeVar
from weakref import WeakSet

Thing = TypeVar("Thing")

_kept: WeakSet[Any] = WeakSet()
_count = 0


def keep_in_children(thing: Thing) -> Thing:
    """Return `thing`; every process that is forked while it exists keeps it until the process ends."""
    _kept.add(thing)
    return thing


def fork_count() -> int:
    """Return the number of forks from the process that first imported this module to this one."""
    return _count


def _after_fork() -> None:
    """Take a reference that is never released, so that not even the end of the interpreter destroys anything."""
    global _count
    _count += 1
    for thing in list(_kept):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
