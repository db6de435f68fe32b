"""What is served: the page's own files, its libraries' and one bundle's, each by the path of its address.

The list is made when the server starts. A request names an entry of that list or gets nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from diffutron_ort.bundle.manifest import MANIFEST, Bundle
from diffutron_ort.demo.libraries import PACKAGES
from diffutron_ort.pages import Pages, Served, of_folder

PAGE, SCRIPTS, MODEL = "/web/", "/js/src/", "/models/nano/"  # as in a checkout, which is how the page refers to them


def listed(pages: Pages, libraries: Path, bundle: Bundle) -> dict[str, Served]:
    """Return what is served, by the path of its address."""
    files = {
        **_at(PAGE, of_folder(pages.web)),
        **_at(SCRIPTS, of_folder(pages.scripts)),
        **_at(SCRIPTS + "generated/", of_folder(pages.scripts / "generated")),
        **_at(MODEL, dict(_of_bundle(bundle))),
    }
    for package in PACKAGES:
        files |= _at(f"{PAGE}node_modules/{package}/dist/", of_folder(libraries / package / "dist"))
    return files | {PAGE: files[PAGE + "index.html"]}


def _at(address: str, files: dict[str, Served]) -> dict[str, Served]:
    return {address + name: served for name, served in files.items()}


def _of_bundle(bundle: Bundle) -> Iterator[tuple[str, Served]]:
    """Yield the manifest and what it lists; a snapshot in the Hub's cache links to files in `blobs`."""
    places = [bundle.folder]
    if bundle.folder.parent.name == "snapshots":
        places.append(bundle.folder.parent.parent / "blobs")
    within = tuple(os.path.realpath(place) for place in places)
    yield MANIFEST, Served(bundle.folder / MANIFEST, within)
    for name, expected in bundle.files.items():
        yield name, Served(bundle.folder / name, within, expected.sha256)
