"""A folder or a hub id to a verified bundle: its manifest, its files, its variants."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from diffutron_ort.canvas import SpecialIds
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import BundleError, BundleFileError, OptionError
from diffutron_ort.prompt import CHAT_TEMPLATE, ROLES

FORMAT = 1
MANIFEST = "diffutron.json"
PLAIN = "plain"  # the manifest's key, and the exporter's name, of a graph for other programs
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
PACKAGE = Path(__file__).parent
EMBEDDED = (PACKAGE / "nano", PACKAGE.parent / "models" / "nano")  # as package data, or in a checkout


@dataclass(frozen=True)
class Variant:
    """One graph of the model.

    Attributes:
        graph: Its path, relative to the bundle.
        weights: The path of its weights.
        fidelity: How far it is from the checkpoint.
        alone: Whether a pass has to compute one sequence, unpadded, and its candidates alone, since what else is in a
            pass moves its predictions (activations quantized with one scale a tensor).
        generate: The path of the whole of generation as one graph; None in a bundle of an older release.
    """

    graph: str
    weights: str
    fidelity: Mapping[str, Any]
    alone: bool = False
    generate: str | None = None


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
        files: Size and SHA-256 of each.
        variants: By name; at least one.
        options: The generation options in which this model differs from the package's defaults.
        output_vocabulary: The ids that the graphs can predict, ascending, one for each column of their `logits`; None
            where that is all of them.
        plain: The graph for other programs, which nothing here runs; None where there is none.
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
    options: Mapping[str, Any] = field(default_factory=dict)
    output_vocabulary: tuple[int, ...] | None = None
    plain: Variant | None = None

    @property
    def weights(self) -> set[str]:
        """The files of weights: they are hashed when they come from the Hub, not whenever they are opened."""
        return {variant.weights for variant in (*self.variants.values(), self.plain) if variant}

    @property
    def columns(self) -> int:
        """How many pieces the graphs can predict."""
        return self.vocab_size if self.output_vocabulary is None else len(self.output_vocabulary)

    @property
    def default_variant(self) -> str:
        """The name of the variant that runs where none is asked for: fp32 if it is there."""
        return "fp32" if "fp32" in self.variants else next(iter(self.variants))

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`.

        Raises:
            OptionError: The bundle has none of that name.
        """
        if name not in self.variants:
            there = ", ".join(sorted(self.variants))
            if name == PLAIN:
                raise OptionError(f"variant={name!r}: it is for optimum and transformers.js; to run here, take {there}")
            raise OptionError(f"variant={name!r}: {self.folder} has {there}; export it to add one")
        return self.variants[name]


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
    for name, expected in bundle.files.items():
        check_file(folder, name, expected, hashed=name not in bundle.weights)
    return replace(bundle, options=_options(folder / "generation_config.json"))


def _options(path: Path) -> dict[str, Any]:
    """Return what a generation_config.json says of our options; it is the ecosystem's, and may say other things."""
    content = _read_json(path)
    options = {name: content[name] for name in OPTION_NAMES & content.keys() if content[name] is not None}
    try:
        GenerationConfig(**options)
    except OptionError as error:
        raise BundleError(f"{path}: {error}") from error
    return options


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
    if not isinstance(model, str | Path | None):
        raise OptionError(f"model={model!r}: must be a folder or a hub id")
    folder = _embedded() if model is None else Path(model)
    if _is_folder(folder):
        if revision is not None:
            raise OptionError(f"revision={revision!r}: {folder} is a folder; only a hub id has revisions")
        return folder
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        return _download(model, revision)
    raise BundleFileError(f"{folder} is no folder: give one with a {MANIFEST}, or a hub id such as owner/name")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _embedded() -> Path:
    for folder in EMBEDDED:
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleFileError(f"the embedded model is in none of {', '.join(map(str, EMBEDDED))}: reinstall diffutron-ort")


def _download(hub_id: str, revision: str | None) -> Path:
    """Fetch a bundle into the Hub's cache, and hash the weights, which loading does not, if they are new there."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BundleFileError(
            f"{hub_id} is no folder here, and downloading it needs huggingface_hub: pip install 'diffutron-ort[hub]'"
        ) from error
    try:
        before = set(Path(snapshot_download(hub_id, revision=revision, local_files_only=True)).rglob("*"))
    except Exception:  # it raises dozens of kinds, from OSError to its own
        before = set()
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=["*.json", "onnx/*"]))
    except Exception as error:
        raise BundleFileError(f"{hub_id} cannot be downloaded: {error}") from error
    bundle = read_manifest(folder)
    for name in bundle.weights:
        try:
            check_file(folder, name, bundle.files[name], hashed=folder / name not in before)
        except BundleError:
            _forget(folder / name)
            raise
    return folder


def _forget(path: Path) -> None:
    """Remove a broken file, and what it links to, from the Hub's cache: what stays there is not hashed again."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


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
    variants = {name: _variant(v, files) for name, v in manifest["variants"].items()}
    if not variants:
        raise ValueError("it has no variant")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        _listed(name, files)
    return Bundle(
        folder=folder,
        source=dict(manifest["source"]),
        context_length=_positive(manifest, "context_length"),
        vocab_size=_positive(manifest, "vocab_size"),
        layers=_positive(manifest, "layers"),
        hidden_size=_positive(manifest, "hidden_size"),
        special=_special(manifest["special_ids"], _positive(manifest, "vocab_size")),
        chat_template=_template(manifest["chat_template"]),
        stop_sequences=[_stop(**stop) for stop in manifest["stop_sequences"]],
        least_onnxruntime=_release(manifest["least_onnxruntime"]),
        files=files,
        variants=variants,
        output_vocabulary=_output_vocabulary(manifest.get("output_vocabulary"), manifest),
        plain=_variant(manifest[PLAIN], files) if PLAIN in manifest else None,
    )


def _variant(said: Mapping[str, Any], files: Mapping[str, Any]) -> Variant:
    return Variant(
        graph=_listed(said["graph"], files),
        weights=_listed(said["weights"], files),
        fidelity=said.get("fidelity", {}),
        alone=said.get("alone") is True,
        generate=None if said.get("generate") is None else _listed(said["generate"], files),
    )


def _inside(name: str) -> str:
    """Return `name` if it is a relative path that stays in its folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise ValueError(f"file name {name!r} leaves the bundle's folder")
    return name


def _special(ids: Mapping[str, Any], vocab_size: int) -> SpecialIds:
    if len(set(ids.values())) < len(ids) or not all(type(i) is int and 0 <= i < vocab_size for i in ids.values()):
        raise ValueError(f"special_ids are {dict(ids)}, not different ids below {vocab_size}")
    return SpecialIds(**ids)


def _output_vocabulary(ids: Any, manifest: Mapping[str, Any]) -> tuple[int, ...] | None:
    if ids is None:
        return None
    if not all(type(i) is int and 0 <= i < manifest["vocab_size"] for i in ids) or sorted(set(ids)) != ids:
        raise ValueError("output_vocabulary is not ascending ids of the vocabulary")
    if missing := set(manifest["special_ids"].values()).difference(ids):
        raise ValueError(f"output_vocabulary lacks the special ids {sorted(missing)}")
    return tuple(ids)


def _template(template: Mapping[str, Any]) -> dict[str, str]:
    if template.keys() != CHAT_TEMPLATE.keys() or not all("{content}" in template[role] for role in ROLES):
        raise ValueError(f"chat_template is {dict(template)}: it lacks a role, or a role its {{content}}")
    return {role: str(text) for role, text in template.items()}


def _stop(text: str, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    if not text or not ids:
        raise ValueError("a stop sequence is empty")
    return str(text), tuple(map(int, ids))


def _release(version: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise ValueError(f"least_onnxruntime is {version!r}, not a release")
    return version


def _listed(name: str, files: Mapping[str, Any]) -> str:
    if name not in files:
        raise ValueError(f"{name!r} is not among its files")
    return name


def _positive(manifest: Mapping[str, Any], name: str) -> int:
    value = manifest[name]
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, not a positive integer")
    return value
