"""A folder or a hub id to a bundle whose files are what its manifest says."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.bundle.integrity import check_file, read_checked
from diffutron_ort.bundle.manifest import MANIFEST, Bundle, read_manifest
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import BundleFileError, OptionError
from diffutron_ort.files import Fields, parse_object

PACKAGE = Path(__file__).parents[1]
EMBEDDED = (PACKAGE / "nano", PACKAGE.parent / "models" / "nano")  # as package data, or in a checkout
READ = ("generation_config.json", "tokenizer.json")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
CHECKPOINTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def load_bundle(model: str | Path | None = None, revision: str | None = None, *, variant: str | None = None) -> Bundle:
    """Find a bundle, check the files that a variant needs against its manifest, and return it.

    Names, places and sizes are checked, and the hashes of all but the weights, which are mapped, not read; those of
    the Hub are hashed when they are new.

    Args:
        model: A folder, or a hub id such as `owner/name`; None is the embedded model.
        revision: Of a hub id: a commit, tag or branch.
        variant: The one that will run; None is the bundle's default. The files of others may be missing.

    Raises:
        BundleError: The manifest cannot be understood, or a file is not what it says.
        BundleFileError: There is no such bundle, or a file of it is missing.
        OptionError: The bundle has no such variant.
    """
    return load_with_tokenizer(model, revision, variant=variant)[0]


def load_with_tokenizer(
    model: str | Path | None = None, revision: str | None = None, *, variant: str | None = None
) -> tuple[Bundle, bytes]:
    """Return a bundle as `load_bundle` does, and the content of its tokenizer.json, so that it is read but once."""
    bundle = read_manifest(_find(model, revision, variant))
    for name in bundle.needed([bundle.default_variant if variant is None else variant]):
        if name not in READ:
            check_file(bundle, name, hashed=name not in bundle.weights)
    options, tokenizer = (read_checked(bundle, name) for name in READ)
    said = _options(parse_object(options, str(bundle.folder / READ[0])))
    return replace(bundle, options=said), tokenizer


def _options(content: Fields) -> dict[str, Any]:
    """Return what a generation_config.json says of our options; it is the ecosystem's, and may say other things."""
    options = {name: content.values[name] for name in sorted(OPTION_NAMES) if name in content}
    try:
        GenerationConfig(**options)
    except OptionError as error:
        raise content.refused(f": {str(error)[:300]}") from error
    return options


def _find(model: str | Path | None, revision: str | None, variant: str | None) -> Path:
    """Return the folder of a model, with what `variant` needs where it comes from the Hub."""
    if not isinstance(model, str | Path | None):
        raise OptionError(f"model={brief(model)}: must be a folder or a hub id")
    if not isinstance(revision, str | None):
        raise OptionError(f"revision={brief(revision)}: must be a commit, tag or branch")
    folder = _embedded() if model is None else Path(model)
    if _is_folder(folder) and str(model):  # Path("") is the current folder
        if revision is not None:
            raise OptionError(f"revision={revision!r}: {folder} is a folder; only a hub id has revisions")
        return _bundle_folder(folder)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        from diffutron_ort.bundle.hub import download  # which most models do without

        return download(model, revision, variant)
    shown = str(model)[:200] or "an empty name"
    raise BundleFileError(f"{shown} is no folder: give one with a {MANIFEST}, or a hub id such as owner/name")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _bundle_folder(folder: Path) -> Path:
    """Return `folder`, unless it has no manifest: then say what it is instead."""
    if os.path.lexists(folder / MANIFEST):
        return folder
    if any(True for pattern in CHECKPOINTS for _ in folder.glob(pattern)):
        raise BundleFileError(
            f"{folder} is a checkpoint, not a bundle ({MANIFEST} is missing). Export it first: "
            f"diffutron-ort export {folder} OUT, then use OUT"
        )
    raise BundleFileError(f"{folder / MANIFEST} is missing: a bundle is a folder that `diffutron-ort export` wrote")


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleFileError(f"the embedded model is in none of {', '.join(map(str, EMBEDDED))}: reinstall diffutron-ort")
