"""Everything that a model is made of, loaded at once."""

import ctypes
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from diffutron_ort.bundle.load import load_with_tokenizer
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.runtime.opening import import_onnxruntime
from diffutron_ort.runtime.session import Session
from diffutron_ort.text.tokenizer import Tokenizer

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
) -> tuple[Bundle, Tokenizer, Session]:
    """Load a bundle, its tokenizer and the session of one of its variants.

    Arguments and errors are those of `Diffutron.from_pretrained`.
    """
    bundle, content = load_with_tokenizer(model, revision, variant=variant)
    import_onnxruntime(bundle.least_onnxruntime)  # now, for it needs the interpreter, as the tokenizer will
    name = str(bundle.folder / "tokenizer.json")
    tokenizer, session = _together(
        lambda: Tokenizer(content, name, bundle.vocab_size, bundle.special),
        lambda: Session(
            bundle,
            bundle.default_variant if variant is None else variant,
            providers=providers,
            threads=threads,
            spin=spin,
        ),
    )
    _return_memory()
    return bundle, tokenizer, session


def _together(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Call both, `first` a moment later and in a thread of its own, and return their results.

    If both fail, raise the first's error.
    """

    def later() -> First:
        time.sleep(HEAD_START)
        return first()

    with ThreadPoolExecutor(1) as thread:
        try:
            awaited = thread.submit(later)
        except RuntimeError:  # the interpreter is ending and starts no thread, or the system has none left
            return first(), second()
        try:
            result = second()
        except Exception:
            awaited.result()
            raise
        return awaited.result(), result


def _return_memory() -> None:
    """Return to the system what loading has freed: glibc keeps it, 120 MB of a tokenizer with 256,000 pieces."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none by this name
        ctypes.CDLL(None).malloc_trim(0)
