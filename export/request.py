"""What an export is asked to do, checked as far as possible before the checkpoint is read; imports nothing heavy."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffutron_ort.bundle.locate import HUB_ID
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import CheckpointError, OptionError
from diffutron_ort_export.recipes import RECIPES, runnable

VARIANTS = tuple(RECIPES)

REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]{0,250}", re.ASCII)
BASE = re.compile(r"(Base|(?<![^\W_])(?i:base))([\W_]+v?\d+)*$")
"""The end of a Base model's name, except for a version number."""

SHORT, LONG = 256, 512
"""The context lengths that the instruction-tuned models and Base were trained with; config.json says 8192 for both."""


@dataclass(frozen=True)
class Request:
    """A checked request for an export.

    Attributes:
        source: A directory in the Hugging Face layout, or a hub id.
        out: The path of the bundle.
        variants: Names of variants, in the order of the table.
        adapter: The directory of a peft LoRA adapter to merge.
        revision: A branch, tag or commit of a hub id.
        context_length: The most tokens, prompt and answer together; None takes the default.
        exclude: Names or patterns of matrices that stay in float32; None finds them by measuring.
        accept: Whether to write a quantized variant however far from float32 it is.
        output_vocabulary: A file that says which tokens can be predicted.
        thorough: Whether to measure quantized variants on more texts, and at every step of a generation.
    """

    source: str
    out: str
    variants: tuple[str, ...]
    adapter: str | None
    revision: str | None
    context_length: int | None
    exclude: tuple[str, ...] | None
    accept: bool
    output_vocabulary: str | None
    thorough: bool


def check_request(
    source: str | Path,
    out: str | Path,
    *,
    variants: Sequence[str],
    adapter: str | Path | None,
    revision: str | None,
    context_length: int | None,
    exclude: Sequence[str] | None,
    accept: bool,
    output_vocabulary: str | Path | None,
    thorough: bool,
) -> Request:
    """Return the request that the arguments of `export` make.

    Raises:
        OptionError: An option has no meaning.
        CheckpointError: The source or the adapter cannot be one.
    """
    names = check_variants(variants)
    request = Request(
        source=path_text("source", source),
        out=path_text("out", out),
        variants=names,
        adapter=None if adapter is None else check_adapter(path_text("adapter", adapter)),
        revision=revision,
        context_length=check_context(context_length),
        exclude=check_exclude(exclude, names),
        accept=accept,
        output_vocabulary=None if output_vocabulary is None else check_file(output_vocabulary),
        thorough=thorough,
    )
    check_source(request.source, revision)
    return request


def check_variants(variants: Sequence[str]) -> tuple[str, ...]:
    """Return the names of variants, each once, in the order of the table.

    Raises:
        OptionError: There is no name, an unknown name, or no variant that this package can run.
    """
    names = tuple(dict.fromkeys(texts("variants", variants)))
    for name in names:
        if name not in VARIANTS:
            raise OptionError(
                f"variant {name!r}: there are {', '.join(VARIANTS)}; choose among them{suggestion(name, VARIANTS)}"
            )
    if not names:
        raise OptionError(f"no variant: there are {', '.join(VARIANTS)}; choose at least one")
    if all(RECIPES[name].third_party for name in names):
        raise OptionError(
            f"variant {' and '.join(names)} alone: nothing here generates from it; choose {runnable()} besides"
        )
    names += tuple(filter(None, (RECIPES[name].shares for name in names)))
    return tuple(name for name in VARIANTS if name in names)


def check_exclude(exclude: Sequence[str] | None, variants: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names or patterns of matrices that stay in float32, if a variant takes them."""
    if exclude is None:
        return None
    found = texts("exclude", exclude)
    if not any(RECIPES[name].takes_exclude for name in variants):
        able = " and ".join(recipe.name for recipe in RECIPES.values() if recipe.takes_exclude)
        raise OptionError(f"exclude {list(found)}: only {able} leaves matrices out, and it is not among the variants")
    return found


def check_context(length: int | None) -> int | None:
    """Return a context length, if it is a positive integer; the network's limit is not known yet."""
    if length is None or (isinstance(length, int) and not isinstance(length, bool) and length >= 1):
        return length
    raise OptionError(f"context length {length!r}: choose from 1 to max_position_embeddings, in whole numbers")


def resolve_context(requested: int | None, name: str, most: int) -> int:
    """Return the most tokens that prompt and answer may have together.

    Args:
        requested: The requested context length; None takes the default for the name.
        name: The checkpoint's name.
        most: The number of positions that the network has rotations for.

    Raises:
        OptionError: The requested length is beyond that.
    """
    if requested is None:
        return min(LONG if BASE.search(name) else SHORT, most)
    if requested > most:
        raise OptionError(f"context length {requested}: choose from 1 to max_position_embeddings, which is {most}")
    return requested


def check_file(path: str | Path) -> str:
    """Return the path of an output vocabulary, if it exists and is no folder."""
    text = path_text("output vocabulary", path)
    if not exists(text):
        raise OptionError(f"output vocabulary {text!r} does not exist; give a text file in UTF-8, or a list of ids")
    if is_folder(text):
        raise OptionError(f"output vocabulary {text!r} is a folder; give a text file in UTF-8, or a list of ids")
    return text


def check_adapter(path: str) -> str:
    """Return the path of an adapter, if it is a folder."""
    if not is_folder(path):
        raise CheckpointError(f"adapter {path!r} is not a directory; give the folder that holds adapter_config.json")
    return path


def check_source(source: str, revision: str | None) -> None:
    """Check that a source is a checkpoint's folder or a hub id, and that the revision can be one."""
    if is_folder(source):
        if revision is not None:
            raise OptionError(f"revision {revision!r} of {source}: a directory has no revisions; leave it out")
        return check_folder(source)
    if os.path.lexists(source):
        raise CheckpointError(f"source {source!r} is not a directory; give the directory that holds it, or a hub id")
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"source {source!r} is neither a directory nor a hub id such as 'owner/name'; give one of the two"
        )
    if revision is not None and not (isinstance(revision, str) and REVISION.fullmatch(revision)):
        raise OptionError(f"revision {revision!r}: must be a branch, a tag or a commit of {source}")
    return None


def check_folder(folder: str) -> None:
    """Check that a folder can be a checkpoint's."""
    if exists(folder, MANIFEST):
        raise CheckpointError(f"source {folder!r} is a bundle already; give the checkpoint that it was made from")
    if not exists(folder, "config.json"):
        raise CheckpointError(f"source {folder!r} has no config.json; give a folder in the Hugging Face layout")


def exists(*path: str) -> bool:
    """Return whether a path exists; False if it cannot be a path."""
    return os.path.exists(os.path.join(*path))  # noqa: PTH110, PTH118 - which do not raise


def texts(name: str, value: Iterable[str]) -> tuple[str, ...]:
    """Return an argument's strings; a single string counts as one of them.

    Raises:
        OptionError: The argument is something else.
    """
    if isinstance(value, str):
        return (value,)
    found = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(text, str) for text in found):
        raise OptionError(f"{name}={value!r}: must be names, such as {VARIANTS[:2]}")
    return found


def path_text(name: str, path: str | os.PathLike[str]) -> str:
    """Return a path as a string.

    Raises:
        OptionError: It is no path, or empty, as an unset variable of the shell is.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise OptionError(f"{name} {path!r}: give a path")
    return text


def is_folder(path: str) -> bool:
    """Return whether a path is a folder; False if it cannot be a path."""
    return os.path.isdir(path)  # noqa: PTH112 - which does not raise


def suggestion(name: str, names: Sequence[str]) -> str:
    """Return " (did you mean …?)" with the closest of `names`, or nothing if none is close."""
    close = difflib.get_close_matches(name.lower().replace("-", ""), names, 1)
    return f" (did you mean {close[0]}?)" if close else ""
