"""The checkpoints that were exported into the user's cache, and the commits of those that came from the Hub.

`exported/OWNER--NAME--COMMIT--RELEASE--VARIANT/` is the entry of an export, or
`exported/NAME--FINGERPRINT--RELEASE--VARIANT/` for a folder. It holds `source.json`, which says what is exported, and
`bundle/`, once that is complete. `revisions/OWNER--NAME.json` holds the commit that each revision had when it was used.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from diffutron_ort import user_cache
from diffutron_ort._version import __version__
from diffutron_ort.brief import brief
from diffutron_ort.bundle.fingerprint import fingerprint
from diffutron_ort.bundle.integrity import check_file
from diffutron_ort.bundle.manifest import FORMAT, MANIFEST, VARIANT_NAME, read_manifest
from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.files import read_object

EXPORTED, REVISIONS = "exported", "revisions"  # folders in the user's cache
SOURCE, BUNDLE = "source.json", "bundle"
RELEASE = f"{__version__}-{FORMAT}"  # of the exporter, which is the package's, and the format that it writes
DEFAULT_VARIANT = "int8"
DEFAULT_REVISION = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a certain content.

    Attributes:
        source: A hub id, or the absolute path of a folder.
        commit: Of a hub id; None for a folder.
        key: What its exports are found by.
    """

    source: str
    commit: str | None
    key: str

    @classmethod
    def of_hub(cls, hub_id: str, commit: str) -> Self:
        """Return the checkpoint in a repository on the Hub."""
        return cls(hub_id, commit, f"{_slug(hub_id)}--{commit}")

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return the checkpoint in a folder.

        Raises:
            CheckpointError: A file cannot be read.
        """
        name = re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII)[:40].lstrip(".")
        return cls(str(folder.absolute()), None, f"{name}--{fingerprint(folder)}")

    def entry(self, variant: str) -> Path:
        """Return the folder for the export of a variant, which may not exist."""
        return user_cache.folder() / EXPORTED / f"{self.key}--{RELEASE}--{variant}"

    def find(self, variant: str) -> Path | None:
        """Return the folder of the bundle with a variant if it has been exported, and note that it is used."""
        entry = self.entry(variant)
        if not (entry / BUNDLE / MANIFEST).is_file():
            return None
        with suppress(OSError):
            os.utime(entry)
        return entry / BUNDLE


class Export(NamedTuple):
    """An entry of the cache.

    Attributes:
        source: A hub id, or the path of a folder.
        commit: Of a hub id.
        variant: The exported variant.
        is_complete: Whether it has a manifest; otherwise it is being exported, or the export was killed.
        release: The release of the exporter, and its format: `0.1.0-2`; this one's if unknown.
        size: In bytes.
        used: When it was last used, in seconds since 1970.
        folder: Its own.
    """

    source: str
    commit: str | None
    variant: str
    is_complete: bool
    release: str
    size: int
    used: float
    folder: Path

    @property
    def name(self) -> str:
        """The source, with the beginning of its commit: `owner/name@0123456`."""
        return f"{self.source}@{self.commit[:7]}" if self.commit else self.source

    @property
    def state(self) -> "State":
        """Whether this release finds it and, if so, can use it."""
        if _numbers(self.release) != _numbers(RELEASE):
            return State.OLDER if _numbers(self.release) < _numbers(RELEASE) else State.NEWER
        if not self.is_complete:
            return State.UNFINISHED
        return State.READY if _is_whole(self.folder / BUNDLE) else State.DAMAGED

    @property
    def is_useless(self) -> bool:
        """Whether neither this release nor a newer one can use it."""
        return self.state in (State.UNFINISHED, State.DAMAGED, State.OLDER)


class State(StrEnum):
    """What can be done with an export."""

    READY = "ready"
    UNFINISHED = "unfinished"
    DAMAGED = "damaged"
    OLDER = "of an older release"
    NEWER = "of a newer release"


def variant_name(variant: str | None) -> str:
    """Return the name of the variant to export.

    Raises:
        OptionError: It cannot be one.
    """
    if variant is None:
        return DEFAULT_VARIANT
    if isinstance(variant, str) and VARIANT_NAME.fullmatch(variant):
        return variant
    raise OptionError(f"variant={brief(variant)}: must be the name of a variant, such as {DEFAULT_VARIANT}")


def recall(hub_id: str, revision: str | None, variant: str | None) -> Path | None:
    """Return the bundle that was exported from a revision, at the commit that it last had, without asking the Hub."""
    commit = revision if is_commit(revision) else _revisions(hub_id).get(revision or DEFAULT_REVISION)
    return Checkpoint.of_hub(hub_id, commit).find(variant_name(variant)) if commit else None


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is a full commit, which never changes."""
    return revision is not None and COMMIT.fullmatch(revision) is not None


def remember(hub_id: str, revision: str | None, commit: str) -> None:
    """Note the commit of a revision, for the time when the Hub cannot be asked."""
    known = _revisions(hub_id)
    noted = known | {revision or DEFAULT_REVISION: commit}
    if noted != known and not is_commit(revision):
        with suppress(DiffutronError):  # it is not needed while the Hub answers
            user_cache.write(_revisions_path(hub_id), json.dumps(noted).encode())


def describe(checkpoint: Checkpoint, variant: str) -> None:
    """Write what an entry is, before it is exported.

    Raises:
        DiffutronError: The cache cannot be written.
    """
    said = {"source": checkpoint.source, "commit": checkpoint.commit, "variant": variant, "exporter": RELEASE}
    user_cache.write(checkpoint.entry(variant) / SOURCE, json.dumps(said).encode())


def exports() -> Iterator[Export]:
    """Yield what is in the cache, by source.

    Raises:
        DiffutronError: The cache cannot be listed.
    """
    place = user_cache.folder() / EXPORTED
    if not user_cache.is_ours(place):
        return
    try:
        paths = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
        yield from sorted(map(_read, paths), key=lambda export: (export.source, export.commit or "", export.variant))
    except OSError as error:
        raise DiffutronError(f"{place} cannot be listed: {error}") from error


def leftovers() -> list[Path]:
    """Return the folders that interrupted removals of exports have left.

    Raises:
        DiffutronError: The cache cannot be listed.
    """
    place = user_cache.folder() / EXPORTED
    try:
        return sorted(place.glob(f"{user_cache.REMOVED}*")) if user_cache.is_ours(place) else []
    except OSError as error:
        raise DiffutronError(f"{place} cannot be listed: {error}") from error


def _is_whole(bundle: Path) -> bool:
    """Return whether a bundle's files are there and have the right sizes."""
    try:
        manifest = read_manifest(bundle)
        for name in manifest.files:
            check_file(manifest, name, hashed=False)
    except DiffutronError:
        return False
    return True


def _numbers(release: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", release)]


def _read(entry: Path) -> Export:
    source, commit, variant, release = _said(entry)
    return Export(
        source=source,
        commit=commit,
        variant=variant,
        is_complete=(entry / BUNDLE / MANIFEST).is_file(),
        release=release,
        size=user_cache.size(entry),
        used=entry.stat().st_mtime,
        folder=entry,
    )


def _said(entry: Path) -> tuple[str, str | None, str, str]:
    """Return source, commit, variant and release of an entry; its folder's name where it does not say them."""
    try:
        said = read_object(entry / SOURCE)
        commit = said.text("commit") if "commit" in said else None
        return said.text("source"), commit, said.text("variant"), said.text("exporter")
    except DiffutronError:
        return entry.name, None, "?", RELEASE


def _revisions(hub_id: str) -> dict[str, str]:
    """Return the commits of a repository's revisions that were used."""
    try:
        known = read_object(_revisions_path(hub_id)).values
    except DiffutronError:
        return {}
    return {name: commit for name, commit in known.items() if isinstance(commit, str) and is_commit(commit)}


def _revisions_path(hub_id: str) -> Path:
    return user_cache.folder() / REVISIONS / f"{_slug(hub_id)}.json"


def _slug(hub_id: str) -> str:
    return hub_id.replace("/", "--")
