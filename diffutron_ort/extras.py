"""Packages that only an extra installs."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffutron_ort.errors import DiffutronError

INDEX = {"torch": " --extra-index-url https://download.pytorch.org/whl/cpu"}  # of torch without CUDA


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
        command = f"pip install 'diffutron-ort[{extra}]'{INDEX.get(extra, '')}"
        raise DiffutronError(f"{what} needs more packages ({error}): {command}") from error
