"""Everything that a model is made of, loaded at once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from diffutron_ort.bundle.load import load_with_tokenizer
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.memory import return_memory, returning_large_blocks
from diffutron_ort.runtime.opening import import_onnxruntime
from diffutron_ort.runtime.session import Session
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import Progress

First = TypeVar("First")
Second = TypeVar("Second")

# Seconds until ONNX Runtime, opening a graph, lets go of the interpreter; tokenizers holds it to the end.
HEAD_START = 0.03


def load(
    model: str | Path | None,
    *,
    variant: str | None,
    providers: Sequence[str] | None,
    revision: str | None,
    threads: int | None,
    spin: bool,
    progress: Progress | None,
) -> tuple[Bundle, Tokenizer, Session]:
    """Load a bundle, its tokenizer and the session of one of its variants.

    Arguments and errors are those of `Diffutron.from_pretrained`.
    """
    bundle, *content = load_with_tokenizer(model, revision, variant=variant, progress=progress)
    import_onnxruntime(bundle.least_onnxruntime)  # now, for it needs the interpreter, as the tokenizer will
    with returning_large_blocks():
        tokenizer, session = _together(
            lambda: _make_tokenizer(bundle, content),
            lambda: Session(
                bundle,
                bundle.default_variant if variant is None else variant,
                providers=providers,
                threads=threads,
                spin=spin,
            ),
        )
    return_memory()
    return bundle, tokenizer, session


def _make_tokenizer(bundle: Bundle, content: list[bytes]) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, after taking the file's content out of the list `content`.

    What both leave free goes back to the system before the graph takes the most memory.
    """
    name = str(bundle.folder / "tokenizer.json")
    tokenizer = Tokenizer(content.pop(), name, bundle.vocab_size, bundle.special)
    return_memory()
    return tokenizer


def _together(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Call both, `first` a moment later and in a thread of its own, and return their results.

    If both fail, raise the first's error.
    """
    later = _Later(first)
    try:
        later.start()
    except RuntimeError:  # the interpreter is ending and starts no thread, or the system has none left
        return first(), second()
    try:
        of_second = second()
    finally:
        of_first = later.result()
    return of_first, of_second


class _Later(Thread, Generic[First]):
    """A thread that makes a call. `concurrent.futures` would do, but takes 4 ms to import."""

    def __init__(self, call: Callable[[], First]) -> None:
        super().__init__()
        self._call = call
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call after a head start for the caller."""
        time.sleep(HEAD_START)
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> First:
        """Wait for the call, and return or raise what it does."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._result
