"""Find the folder of a bundle: a folder itself, a hub id, or the model that comes with the package."""

import os
import re
from pathlib import Path

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import BundleFileError, OptionError

PACKAGE = Path(__file__).parents[1]
EMBEDDED = (PACKAGE / "nano", PACKAGE.parent / "models" / "nano")  # as package data, or in a checkout
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
CHECKPOINTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def locate(model: str | Path | None, revision: str | None, variant: str | None) -> Path:
    """Return the folder of a bundle; download the files that `variant` needs if `model` is a hub id.

    Args:
        model: A folder, or a hub id such as `owner/name`; None is the embedded model.
        revision: A commit, tag or branch of a hub id.
        variant: The variant to download; None is the bundle's first.

    Raises:
        BundleFileError: There is no such bundle, or it cannot be downloaded.
        BundleError: A downloaded file does not match the manifest.
        OptionError: An argument is not allowed.
    """
    if not isinstance(model, str | Path | None):
        raise OptionError(f"model={brief(model)}: must be a folder or a hub id")
    if not isinstance(revision, str | None):
        raise OptionError(f"revision={brief(revision)}: must be a commit, tag or branch")
    folder = _embedded() if model is None else Path(model)
    if _is_folder(folder) and str(model):  # Path("") is the current folder
        if revision is not None:
            raise OptionError(f"revision={revision!r}: {folder} is a folder; only a hub id has revisions")
        return _with_manifest(folder)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        from diffutron_ort.bundle.hub import download  # not needed for a local folder

        return download(model, revision, variant)
    shown = str(model)[:200] or "an empty name"
    raise BundleFileError(f"{shown} is not a folder: give a folder with a {MANIFEST}, or a hub id such as owner/name")


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleFileError(f"the embedded model is in none of {', '.join(map(str, EMBEDDED))}: reinstall diffutron-ort")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # the name is too long, or contains a NUL
        return False


def _with_manifest(folder: Path) -> Path:
    """Return `folder` if it has a manifest; otherwise raise an error that says what the folder is instead."""
    if os.path.lexists(folder / MANIFEST):
        return folder
    if any(True for pattern in CHECKPOINTS for _ in folder.glob(pattern)):
        raise BundleFileError(
            f"{folder} is a checkpoint, not a bundle ({MANIFEST} is missing). Export it first: "
            f"diffutron-ort export {folder} OUT, then use OUT"
        )
    raise BundleFileError(f"{folder / MANIFEST} is missing: a bundle is a folder that `diffutron-ort export` wrote")
