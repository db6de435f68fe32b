"""What is asked of an export, checked as far as it can be before the checkpoint is read; imports nothing heavy."""

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
"""What the name of a Base model ends in, a number of a version aside."""

SHORT, LONG = 256, 512
"""What the instruction-tuned models and Base were trained with; config.json says 8192 of both."""


@dataclass(frozen=True)
class Request:
    """An export that is asked for.

    Attributes:
        source: a directory in the Hugging Face layout, or a hub id.
        out: where the bundle goes.
        variants: names of variants, each once.
        adapter: directory of a peft LoRA adapter to merge.
        revision: of a hub id.
        context_length: how long prompt and answer may be together.
        exclude: names or patterns of matrices that int8 leaves in float32; None finds them by measuring.
        accept: whether to write a quantized variant however far from float32 it is.
        output_vocabulary: a file that tells which pieces can be predicted.
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


def checked(
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
) -> Request:
    """Return the request that these arguments make; they are those of `export`.

    Raises:
        OptionError: an option has no meaning.
        CheckpointError: the source or the adapter cannot be one.
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
    )
    check_source(request.source, revision)
    return request


def check_variants(variants: Sequence[str]) -> tuple[str, ...]:
    """Return names of variants, each once.

    Raises:
        OptionError: no name at all, one that is no variant's, or none that this package can run.
    """
    names = tuple(dict.fromkeys(texts("variants", variants)))
    for name in names:
        if name not in VARIANTS:
            raise OptionError(
                f"variant {name!r}: there are {', '.join(VARIANTS)}; choose among them{suggested(name, VARIANTS)}"
            )
    if not names:
        raise OptionError(f"no variant: there are {', '.join(VARIANTS)}; choose at least one")
    if all(RECIPES[name].third_party for name in names):
        raise OptionError(
            f"variant {' and '.join(names)} alone: nothing here generates from it; choose {runnable()} besides"
        )
    return tuple(name for name in VARIANTS if name in names)


def check_exclude(exclude: Sequence[str] | None, variants: Sequence[str]) -> tuple[str, ...] | None:
    """Return what int8 leaves out, if int8 is asked for."""
    if exclude is None:
        return None
    found = texts("exclude", exclude)
    if not any(RECIPES[name].takes_exclude for name in variants):
        able = " and ".join(recipe.name for recipe in RECIPES.values() if recipe.takes_exclude)
        raise OptionError(f"exclude {list(found)}: only {able} leaves matrices out, and it is not among the variants")
    return found


def check_context(length: int | None) -> int | None:
    """Return a context length, if it can be one; the network's limit is not known yet."""
    if length is None or (isinstance(length, int) and not isinstance(length, bool) and length >= 1):
        return length
    raise OptionError(f"context length {length!r}: choose from 1 to max_position_embeddings, in whole numbers")


def context(asked: int | None, name: str, most: int) -> int:
    """Return how long prompt and answer may be together.

    Args:
        asked: what is asked for.
        name: of the checkpoint.
        most: what the network has rotations for.

    Raises:
        OptionError: more is asked for.
    """
    if asked is None:
        return min(LONG if BASE.search(name) else SHORT, most)
    if asked > most:
        raise OptionError(f"context length {asked}: choose from 1 to max_position_embeddings, which is {most}")
    return asked


def check_file(path: str | Path) -> str:
    """Return the path of an output vocabulary, if something that can be read is there."""
    text = path_text("output vocabulary", path)
    if not is_there(text):
        raise OptionError(f"output vocabulary {text!r} is not there; give a text file in UTF-8, or a list of ids")
    if is_folder(text):
        raise OptionError(f"output vocabulary {text!r} is a folder; give a text file in UTF-8, or a list of ids")
    return text


def check_adapter(path: str) -> str:
    """Return the path of an adapter, if it is a folder."""
    if not is_folder(path):
        raise CheckpointError(f"adapter {path!r} is no directory; give the folder that holds adapter_config.json")
    return path


def check_source(source: str, revision: str | None) -> None:
    """Refuse what is neither a folder that can hold a checkpoint nor a hub id, and a revision that cannot be."""
    if is_folder(source):
        if revision is not None:
            raise OptionError(f"revision {revision!r} of {source}: a directory has no revisions; leave it out")
        return check_folder(source)
    if os.path.lexists(source):
        raise CheckpointError(f"source {source!r} is no directory; give the directory that holds it, or a hub id")
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"source {source!r} is neither a directory nor a hub id such as 'owner/name'; give one of the two"
        )
    if revision is not None and not (isinstance(revision, str) and REVISION.fullmatch(revision)):
        raise OptionError(f"revision {revision!r}: must be a branch, a tag or a commit of {source}")
    return None


def check_folder(folder: str) -> None:
    """Refuse a folder that is no checkpoint's."""
    if is_there(folder, MANIFEST):
        raise CheckpointError(f"source {folder!r} is a bundle already; give the checkpoint that it was made from")
    if not is_there(folder, "config.json"):
        raise CheckpointError(f"source {folder!r} has no config.json; give a folder in the Hugging Face layout")


def is_there(*path: str) -> bool:
    """Return whether something is at a path; False where nothing can be."""
    return os.path.exists(os.path.join(*path))  # noqa: PTH110, PTH118 - which do not raise


def texts(name: str, value: Iterable[str]) -> tuple[str, ...]:
    """Return several strings; a string is one of them, not its letters.

    Raises:
        OptionError: it is something else.
    """
    if isinstance(value, str):
        return (value,)
    found = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(text, str) for text in found):
        raise OptionError(f"{name}={value!r}: must be names, such as {VARIANTS[:2]}")
    return found


def path_text(name: str, path: str | os.PathLike[str]) -> str:
    """Return a path as it is written.

    Raises:
        OptionError: it is no path, or the empty one, which a variable that is not set becomes.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise OptionError(f"{name} {path!r}: give a path")
    return text


def is_folder(path: str) -> bool:
    """Return whether a path is a folder's; False where it cannot be one."""
    return os.path.isdir(path)  # noqa: PTH112 - which does not raise


def suggested(name: str, names: Sequence[str]) -> str:
    """Return the words that suggest the name that was probably meant, if there is one."""
    close = difflib.get_close_matches(name.lower().replace("-", ""), names, 1)
    return f" (did you mean {close[0]}?)" if close else ""
