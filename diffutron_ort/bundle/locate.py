"""Find the folder of a bundle: a folder itself, a hub id, or the model that comes with the package.

A folder or a hub id may also be a checkpoint, which is exported into the user's cache when it is first used.
"""

import os
import re
from pathlib import Path

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import BundleFileError, OptionError
from diffutron_ort.types import Progress

PACKAGE = Path(__file__).parents[1]
EMBEDDED = (PACKAGE / "nano", PACKAGE.parent / "models" / "nano")  # as package data, or in a checkout
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
CHECKPOINTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def locate(
    model: str | Path | None, revision: str | None, variant: str | None, progress: Progress | None = None
) -> Path:
    """Return the folder of a bundle; download the files that `variant` needs if `model` is a hub id.

    Args:
        model: A folder, or a hub id such as `owner/name`, of a bundle or a checkpoint; None is the embedded model.
        revision: A commit, tag or branch of a hub id.
        variant: The variant to download; None is the bundle's first, and `int8` of a checkpoint.
        progress: Called while files are downloaded or a checkpoint is exported.

    Raises:
        BundleFileError: There is no such bundle, or it cannot be downloaded.
        BundleError: A downloaded file does not match the manifest.
        CheckpointError: A checkpoint cannot be exported.
        FidelityError: An exported graph differs too much from its checkpoint.
        OptionError: An argument is not allowed.
        DiffutronError: A checkpoint needs the extra `[export]`, or the user's cache cannot be written.
    """
    folder = folder_of(model, revision)
    if folder is None:
        from diffutron_ort.bundle.hub import download  # not needed for a local folder

        return download(str(model), revision, variant, progress)
    if is_bundle(folder):
        return folder
    from diffutron_ort.bundle.exported import Checkpoint
    from diffutron_ort.bundle.exporting import CONFIG, exported  # neither is needed for a bundle

    return exported(Checkpoint.of_folder(folder), folder / CONFIG, variant, progress)


def folder_of(model: str | Path | None, revision: str | None) -> Path | None:
    """Return the folder of a model, or None for a hub id.

    Raises:
        BundleFileError: It is neither.
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
        return folder
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        return None
    shown = str(model)[:200] or "an empty name"
    raise BundleFileError(
        f"{shown} is not a folder: give a bundle (a folder with a {MANIFEST}), a checkpoint's folder, or a hub id such "
        "as owner/name"
    )


def is_bundle(folder: Path) -> bool:
    """Return whether a folder has a manifest; if not, it is a checkpoint.

    Raises:
        BundleFileError: It is neither.
    """
    if os.path.lexists(folder / MANIFEST):
        return True
    if any(True for pattern in CHECKPOINTS for _ in folder.glob(pattern)):
        return False
    raise BundleFileError(
        f"{folder / MANIFEST} is missing: a bundle is a folder that `diffutron-ort export` wrote; nor is it a "
        "checkpoint, which has a config.json and a model.safetensors"
    )


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
