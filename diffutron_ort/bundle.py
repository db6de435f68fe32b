"""A folder or a hub id to a verified bundle: its manifest, its files, its variants."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from diffutron_ort.canvas import SpecialIds
from diffutron_ort.config import OPTION_NAMES
from diffutron_ort.errors import BundleError, BundleFileError, OptionError

FORMAT = 1
MANIFEST = "diffutron.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PACKAGE = Path(__file__).parent
EMBEDDED = (PACKAGE / "nano", PACKAGE.parent / "models" / "nano")  # as package data, or in a checkout


@dataclass(frozen=True)
class Variant:
    """One graph of the model, with its weights, as paths relative to the bundle."""

    graph: str
    weights: str
    fidelity: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """What a manifest says of its folder; every path and length in it has been checked.

    Attributes:
        folder: Where the files are.
        source: Name, revision and adapter of the checkpoint that was exported.
        context_length: The most tokens, prompt and answer together, that the model was trained with.
        vocab_size: Number of pieces.
        layers: Number of layers.
        hidden_size: Width of the residual stream.
        special: The control tokens.
        chat_template: What each role's message becomes.
        stop_sequences: What ends an answer, as text and as ids.
        least_onnxruntime: The oldest release that runs the graphs.
        variants: By name.
    """

    folder: Path
    source: Mapping[str, Any]
    context_length: int
    vocab_size: int
    layers: int
    hidden_size: int
    special: SpecialIds
    chat_template: Mapping[str, str]
    stop_sequences: Sequence[tuple[str, tuple[int, ...]]]
    least_onnxruntime: str
    files: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Variant]

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`.

        Raises:
            OptionError: The bundle has none of that name.
        """
        if name not in self.variants:
            there = ", ".join(sorted(self.variants))
            raise OptionError(f"variant={name!r}: {self.folder} has {there}; export it to add one")
        return self.variants[name]

    def generation_options(self) -> dict[str, Any]:
        """Return the options in which this model differs from the package's defaults, by name.

        The file is the ecosystem's own, and may say other things, which are passed over.
        """
        options = _read_json(self.folder / "generation_config.json")
        return {name: options[name] for name in OPTION_NAMES & options.keys()}


def load_bundle(model: str | Path | None = None, revision: str | None = None) -> Bundle:
    """Find a bundle, check its files against its manifest, and return it.

    Names and sizes of all files are checked, and the hashes of all but the weights, which are mapped, not read.

    Args:
        model: A folder, or a hub id such as `owner/name`; None is the embedded model.
        revision: Of a hub id: a commit, tag or branch.

    Raises:
        BundleError: The manifest cannot be understood, or a file is not what it says.
        BundleFileError: There is no such bundle, or a file of it is missing.
    """
    folder = _find(model, revision)
    bundle = read_manifest(folder)
    weights = {variant.weights for variant in bundle.variants.values()}
    for name, expected in bundle.files.items():
        check_file(folder, name, expected, hashed=name not in weights)
    return bundle


def read_manifest(folder: Path) -> Bundle:
    """Return the bundle that the manifest in `folder` describes, without looking at its other files.

    Raises:
        BundleError: The manifest is missing, of another format, or malformed.
    """
    path = folder / MANIFEST
    manifest = _read_json(path)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise BundleError(f"{path} has format {found!r}: this release reads {FORMAT}; export the model again")
    try:
        bundle = _parse(folder, manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} is malformed: {type(error).__name__}: {error}; export the model again") from error
    return bundle


def check_file(folder: Path, name: str, expected: Mapping[str, Any], *, hashed: bool) -> None:
    """Compare a file's size and, if `hashed`, its SHA-256 with those of the manifest.

    Raises:
        BundleError: They differ.
        BundleFileError: The file is missing.
    """
    path = folder / name
    if not path.is_file():
        raise BundleFileError(f"{path} is missing, though {MANIFEST} lists it; download or export the bundle again")
    size = path.stat().st_size
    if size != expected["size"]:
        raise BundleError(f"{path} has {size} bytes, not {expected['size']}: it was cut or replaced; get it again")
    if hashed and (actual := sha256(path)) != expected["sha256"]:
        raise BundleError(f"{path} was changed: its SHA-256 is {actual}, not {expected['sha256']}; get it again")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(model: str | Path | None, revision: str | None) -> Path:
    if model is None:
        return _embedded()
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise OptionError(f"revision={revision!r}: {folder} is a folder; only a hub id has revisions")
        return folder
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        return _download(model, revision)
    raise BundleFileError(f"{folder} is not there: give a folder with a {MANIFEST}, or a hub id such as owner/name")


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleFileError(f"the embedded model is in none of {', '.join(map(str, EMBEDDED))}: reinstall diffutron-ort")


def _download(hub_id: str, revision: str | None) -> Path:
    """Fetch a bundle into the Hub's cache, and hash its weights, which loading does not."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BundleFileError(
            f"{hub_id} is no folder here, and downloading it needs huggingface_hub: pip install 'diffutron-ort[hub]'"
        ) from error
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=["*.json", "onnx/*"]))
    except Exception as error:  # it raises dozens of kinds, from OSError to its own
        raise BundleFileError(f"{hub_id} cannot be downloaded: {error}") from error
    bundle = read_manifest(folder)
    for variant in bundle.variants.values():
        check_file(folder, variant.weights, bundle.files[variant.weights], hashed=True)
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BundleFileError(f"{path} is missing: a bundle is a folder that `diffutron-ort export` wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def _parse(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    files = {
        _inside(name): {"size": int(f["size"]), "sha256": str(f["sha256"])} for name, f in manifest["files"].items()
    }
    variants = {
        name: Variant(_listed(v["graph"], files), _listed(v["weights"], files), v.get("fidelity", {}))
        for name, v in manifest["variants"].items()
    }
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        _listed(name, files)
    return Bundle(
        folder=folder,
        source=dict(manifest["source"]),
        context_length=_positive(manifest, "context_length"),
        vocab_size=_positive(manifest, "vocab_size"),
        layers=_positive(manifest, "layers"),
        hidden_size=_positive(manifest, "hidden_size"),
        special=SpecialIds(**manifest["special_ids"]),
        chat_template={role: str(text) for role, text in manifest["chat_template"].items()},
        stop_sequences=[(str(stop["text"]), tuple(map(int, stop["ids"]))) for stop in manifest["stop_sequences"]],
        least_onnxruntime=str(manifest["least_onnxruntime"]),
        files=files,
        variants=variants,
    )


def _inside(name: str) -> str:
    """Return `name` if it is a relative path that stays in its folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise ValueError(f"file name {name!r} leaves the bundle's folder")
    return name


def _listed(name: str, files: Mapping[str, Any]) -> str:
    if name not in files:
        raise ValueError(f"{name!r} is not among its files")
    return name


def _positive(manifest: Mapping[str, Any], name: str) -> int:
    value = manifest[name]
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, not a positive integer")
    return value
