"""Find a model without downloading its weights or exporting it: what is here, or what would be exported."""

from pathlib import Path
from typing import NamedTuple

from diffutron_ort.bundle.exported import BUNDLE, Checkpoint, variant_name
from diffutron_ort.bundle.exporting import CONFIG
from diffutron_ort.bundle.locate import folder_of, is_bundle
from diffutron_ort.bundle.manifest import MANIFEST


class Unexported(NamedTuple):
    """A checkpoint whose export is not in the user's cache.

    Attributes:
        checkpoint: The checkpoint.
        config: The path of its config.json.
        variant: The variant that would be exported.
    """

    checkpoint: Checkpoint
    config: Path
    variant: str


def look(
    model: str | Path | None, revision: str | None = None, variant: str | None = None, *, ask: bool = True
) -> Path | Unexported:
    """Return the folder of a bundle, or a checkpoint that is not exported yet; of a hub id, only small files are read.

    Args:
        model: A folder, or a hub id such as `owner/name`, of a bundle or a checkpoint; None is the embedded model.
        revision: A commit, tag or branch of a hub id.
        variant: The variant of a checkpoint; None is `int8`.
        ask: Whether the Hub is asked for a hub id; otherwise, what is here counts.

    Raises:
        BundleFileError: There is no such model.
        CheckpointError: A checkpoint cannot be read.
        OptionError: An argument is not allowed.
    """
    folder = folder_of(model, revision)
    if folder is None:
        return _on_hub(str(model), revision, variant, ask)
    return folder if is_bundle(folder) else _exported(Checkpoint.of_folder(folder), folder, variant)


def _on_hub(hub_id: str, revision: str | None, variant: str | None, ask: bool) -> Path | Unexported:
    from diffutron_ort.bundle.hub import peek  # not needed for a local folder

    folder, is_export = peek(hub_id, revision, variant, ask=ask)
    if is_export or (folder / MANIFEST).is_file():
        return folder
    return _exported(Checkpoint.of_hub(hub_id, folder.name), folder, variant)


def _exported(checkpoint: Checkpoint, folder: Path, variant: str | None) -> Path | Unexported:
    """Return the bundle that was exported from a checkpoint, if it was; looking is no use of it, and is not noted."""
    name = variant_name(variant)
    bundle = checkpoint.entry(name) / BUNDLE
    return bundle if (bundle / MANIFEST).is_file() else Unexported(checkpoint, folder / CONFIG, name)
