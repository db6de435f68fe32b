"""This program's folder in the user's cache: what is in it, whether it can be written, and the disk's free space."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from diffutron_ort import user_cache
from diffutron_ort.bundle.exported import Export, exports
from diffutron_ort.doctor.findings import NOTE, OK, WARNING, Finding
from diffutron_ort.doctor.subject import Subject

TOPIC = "cache"
ROOM = 2e9  # bytes that a download and an export of the real model take
REMEDY = f"set {user_cache.VARIABLE} to a folder that can be written"


def check(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Report the folder, its content, and what of it is of no use."""
    folder, contents = user_cache.folder(), user_cache.contents()
    size = sum(size for _, size in contents)
    held = ", ".join(f"{path.name} {_megabytes(size)}" for path, size in contents) or "empty"
    facts = {"folder": str(folder), "size": size}
    yield Finding(TOPIC, OK, f"{folder}: {held}", facts=facts)
    yield from _exports(list(exports()))
    place = _existing(folder)
    if (problem := _problem(place)) is not None:
        text = f"{place} cannot be written ({problem}); checkpoints cannot be exported, all else works"
        yield Finding(TOPIC, WARNING, text, REMEDY)
        return
    yield _space(place)


def _exports(found: list[Export]) -> Iterator[Finding]:
    useless = [export for export in found if export.is_useless]
    if useless:
        size = sum(export.size for export in useless)
        states = ", ".join(sorted({str(export.state) for export in useless}))
        text = f"{_megabytes(size)} of exports are of no use ({states})"
        yield Finding(TOPIC, NOTE, text, "diffutron-ort rm --old", {"useless": len(useless), "size": size})


def _existing(folder: Path) -> Path:
    """Return a folder, or the first of its parents that is there."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def _problem(place: Path) -> str | None:
    """Return why no file can be written in a folder, None if one can."""
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)


def _space(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    text = f"it can be written; {_megabytes(free)} of the disk are free"
    if free < ROOM:
        remedy = "make room, or " + REMEDY
        return Finding(TOPIC, WARNING, f"{text}, less than an export of the real model takes", remedy, {"free": free})
    return Finding(TOPIC, OK, text, facts={"free": free})


def _megabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
