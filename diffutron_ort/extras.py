"""Packages that only an extra installs."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from diffutron_ort.errors import DiffutronError

INDEX = {"torch": " --extra-index-url https://download.pytorch.org/whl/cpu"}  # of torch without CUDA


class Extra(NamedTuple):
    """An extra for users; those for developers are in pyproject.toml alone.

    Attributes:
        name: Its name.
        gives: What it is for.
        modules: The modules of its packages that are looked for.
    """

    name: str
    gives: str
    modules: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install 'diffutron-ort[{self.name}]'{INDEX.get(self.name, '')}"

    def is_here(self) -> bool:
        """Return whether its packages are installed; none of them is imported."""
        return all(map(_is_found, self.modules))


EXTRAS = (
    Extra("cli", "the live canvas, progress bars and line editing in a terminal", ("rich", "prompt_toolkit")),
    Extra("serve", "the server: diffutron-ort serve", ("starlette", "uvicorn", "msgspec", "prometheus_client")),
    Extra("hub", "models by hub id", ("huggingface_hub",)),
    Extra("export", "checkpoints, and diffutron-ort export", ("onnx", "onnxscript", "safetensors", "filelock")),
    Extra("eval", "tasks of lm-evaluation-harness: diffutron-ort eval", ("lm_eval",)),
    Extra("ray", "answers on a Ray cluster", ("ray",)),
    Extra("torch", "diffutron-ort verify --against torch", ("torch", "transformers")),
)


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Turn the failure of an import into advice.

    Args:
        extra: Its name.
        what: What needs its packages, for the message.

    Raises:
        DiffutronError: A package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        command = Extra(extra, what, ()).command
        raise DiffutronError(f"{what} needs more packages ({error}): {command}") from error


def _is_found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec was put in its place
        return False
