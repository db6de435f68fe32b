"""Load a bundle: locate it, read its manifest, and check its files against the manifest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.integrity import check_file, read_checked
from diffutron_ort.bundle.locate import locate
from diffutron_ort.bundle.manifest import Bundle, read_manifest
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.files import parse_object
from diffutron_ort.types import Progress

OPTIONS, TOKENIZER = "generation_config.json", "tokenizer.json"


def load_bundle(
    model: str | Path | None = None,
    revision: str | None = None,
    *,
    variant: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Return a bundle after checking the files that a variant needs.

    The check covers the names, locations and sizes of all these files, and the hashes of all but the weights, which
    are mapped rather than read. Weights from the Hub are hashed once, after they are downloaded.

    Args:
        model: A folder, or a hub id such as `owner/name`; None is the embedded model. A checkpoint is exported.
        revision: A commit, tag or branch of a hub id.
        variant: The variant that will run; None is the bundle's default. Files of other variants may be missing.
        progress: Called while files are downloaded or a checkpoint is exported.

    Raises:
        BundleError: The manifest is malformed, or a file does not match it.
        BundleFileError: There is no such bundle, or a file is missing.
        OptionError: The bundle has no such variant.
        DiffutronError: A checkpoint cannot be exported; `locate` lists the errors.
    """
    return load_with_tokenizer(model, revision, variant=variant, progress=progress)[0]


def load_with_tokenizer(
    model: str | Path | None = None,
    revision: str | None = None,
    *,
    variant: str | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, bytes]:
    """Return a bundle as `load_bundle` does, and the content of its tokenizer.json, which is read only once."""
    bundle = read_manifest(locate(model, revision, variant, progress))
    for name in bundle.needed([bundle.default_variant if variant is None else variant]):
        if name not in (OPTIONS, TOKENIZER):
            check_file(bundle, name, hashed=name not in bundle.weights)
    return replace(bundle, options=read_options(bundle)), read_checked(bundle, TOKENIZER)


def read_options(bundle: Bundle) -> dict[str, Any]:
    """Return our options from a bundle's generation_config.json; it may hold others, for other libraries.

    Raises:
        BundleFileError: The file is missing.
        BundleError: It does not match the manifest, or a value is not allowed.
    """
    content = parse_object(read_checked(bundle, OPTIONS), str(bundle.folder / OPTIONS))
    options = {name: content.values[name] for name in sorted(OPTION_NAMES) if name in content}
    try:
        GenerationConfig(**options)
    except OptionError as error:
        raise content.refused(f": {str(error)[:300]}") from error
    return options
