"""The model's files: found, of a format that is read, unchanged, and which variants are complete."""

from collections.abc import Iterator
from pathlib import Path

from diffutron_ort.bundle.integrity import check_file
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.looking import Unexported
from diffutron_ort.bundle.manifest import FORMAT, MANIFEST, Bundle, read_manifest
from diffutron_ort.doctor.findings import ERROR, NOTE, OK, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.errors import BundleFileError, DiffutronError

TOPIC = "bundle"


def check(subject: Subject) -> Iterator[Finding]:
    """Report where the model is, and the state of its files; errors are raised."""
    if isinstance(subject.place, Unexported):
        yield _unexported(subject.place)
        return
    bundle = read_manifest(subject.place)
    tool = bundle.tools.get("diffutron-ort")
    by = f", exported by diffutron-ort {tool}" if tool else ""
    facts = {"folder": str(bundle.folder), "format": FORMAT, "source": dict(bundle.source), "tools": dict(bundle.tools)}
    yield Finding(
        TOPIC, OK, f"{bundle.source['name'] or 'unnamed'}, format {FORMAT}{by}, in {bundle.folder}", facts=facts
    )
    name = subject.variant or bundle.default_variant
    yield _checked(bundle, name)
    for other in bundle.variants:
        if other != name:
            yield _other(bundle, other)


def _checked(bundle: Bundle, name: str) -> Finding:
    """Return the finding on the files of the variant that would run, checked as at every start."""
    files, facts = bundle.needed([name]), {"variant": name}
    if _is_of_hub(bundle.folder) and not all((bundle.folder / file).exists() for file in files):
        return Finding(TOPIC, NOTE, f"{name} is not downloaded yet; its first use does it", _fetching(bundle), facts)
    try:
        load_bundle(bundle.folder, variant=name)
    except BundleFileError as error:
        return Finding(TOPIC, ERROR, f"{name} is incomplete: {error}", facts=facts)
    text = f"{name}: all {len(files)} files are here, with the right sizes and, but for the weights, the right hashes"
    return Finding(TOPIC, OK, text, facts=facts)


def _other(bundle: Bundle, name: str) -> Finding:
    """Return the finding on a variant that would not run: its names and sizes alone."""
    facts = {"variant": name}
    if not bundle.is_here(bundle.variants[name]):
        return Finding(TOPIC, OK, f"{name}: not here, and not needed", facts=facts)
    try:
        for file in bundle.needed([name]):
            check_file(bundle, file, hashed=False)
    except DiffutronError as error:
        return Finding(TOPIC, NOTE, f"{name} cannot be used: {error}", facts=facts)
    return Finding(TOPIC, OK, f"{name}: here too", facts=facts)


def _unexported(found: Unexported) -> Finding:
    text = f"{found.checkpoint.source} is a checkpoint; its first use exports {found.variant}, which takes a minute"
    facts = {"checkpoint": found.checkpoint.source, "variant": found.variant}
    return Finding(TOPIC, NOTE, text, "see what it will be: diffutron-ort info MODEL", facts)


def _is_of_hub(folder: Path) -> bool:
    return folder.parent.name == "snapshots" and (folder / MANIFEST).is_symlink()


def _fetching(bundle: Bundle) -> str:
    return f"with a network: diffutron-ort generate --model {bundle.source['name'] or 'MODEL'} Merhaba"
