"""Read and check diffutron.json, the manifest of a bundle."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.bundle.unfinished import is_own
from diffutron_ort.errors import BundleError, OptionError
from diffutron_ort.files import MOST_BYTES, Fields, read_object
from diffutron_ort.text.chat_template import CHAT_TEMPLATE, ROLES
from diffutron_ort.types import SpecialIds

FORMAT = 2
MANIFEST = "diffutron.json"
PLAIN = "plain"  # the manifest's key, and the exporter's name, for the graph that other programs run
ALWAYS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")

# Upper bounds: far beyond the real model, and small enough that arrays of these sizes cannot exhaust memory.
MOST_CONTEXT = 2**17
MOST_PIECES = 2**22
MOST_LAYERS = 2**10
MOST_WIDTH = 2**16
MOST_SIZE = 2**42
MOST_FIGURE = 1e30  # of a fidelity card
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}){0,3}")
EXACT = "max_abs_over_std"  # a fidelity card's largest error of a logit, relative; only exact variants have it
VARIANT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
PROVIDER_NAME = re.compile(r"[a-z0-9_]{1,32}")
SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")  # safe in a command that users copy
RELEASE = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class File(NamedTuple):
    """The size and hash of a file, as the manifest lists them.

    Attributes:
        size: In bytes.
        sha256: In hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Variant:
    """One form of the model: its graphs and their weights.

    Attributes:
        graph: Path of the denoiser's graph, relative to the bundle.
        weights: Path of the weights.
        fidelity: Figures that say how close it is to the checkpoint.
        batch_invariant: Whether a sequence's predictions are the same whatever else is in the pass. If they are not
            (activations quantized with one scale a tensor), a pass must compute one sequence, unpadded, and predict
            nothing but its candidates.
        providers: Short names of the ONNX Runtime providers that can run it; None if all can.
        generate: Path of the generation graph; None if there is none.
    """

    graph: str
    weights: str
    fidelity: Mapping[str, Any]
    batch_invariant: bool = True
    providers: tuple[str, ...] | None = None
    generate: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all its files, the weights last."""
        return (self.graph, *([self.generate] if self.generate else []), self.weights)

    @property
    def is_exact(self) -> bool:
        """Whether it was exported to predict what the checkpoint predicts at float32."""
        return EXACT in self.fidelity

    def runs_on(self, provider: str) -> bool:
        """Return whether the provider with this short name can run it."""
        return self.providers is None or provider in self.providers


@dataclass(frozen=True)
class Bundle:
    """What a manifest says about its folder.

    Attributes:
        folder: The folder with the files, absolute.
        source: Name, revision and adapter of the checkpoint that was exported.
        context_length: The largest number of tokens, prompt and answer together, that the model was trained with.
        vocab_size: Number of pieces.
        layers: Number of layers.
        hidden_size: Width of the residual stream.
        special: The control tokens.
        chat_template: How each role's message is rendered.
        stop_sequences: What ends an answer, as text and as ids.
        least_onnxruntime: The oldest release that runs the graphs.
        files: Size and SHA-256 of each file, by its path relative to the bundle.
        variants: By name; at least one.
        options: The generation options in which this model differs from the package's defaults.
        output_vocabulary: The ids that the graphs can predict, ascending, one for each column of their `logits`; None
            if they can predict all.
        plain: The graph for other programs, which nothing here runs; None if there is none.
        tools: The versions of the packages that exported it, by name.
    """

    folder: Path
    source: Mapping[str, str | None]
    context_length: int
    vocab_size: int
    layers: int
    hidden_size: int
    special: SpecialIds
    chat_template: Mapping[str, str]
    stop_sequences: Sequence[tuple[str, tuple[int, ...]]]
    least_onnxruntime: str
    files: Mapping[str, File]
    variants: Mapping[str, Variant]
    options: Mapping[str, Any] = field(default_factory=dict)
    output_vocabulary: tuple[int, ...] | None = None
    plain: Variant | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> set[str]:
        """The weight files: they are hashed when they are downloaded, not whenever they are opened."""
        return {variant.weights for variant in self._all_variants}

    @property
    def columns(self) -> int:
        """The number of pieces that the graphs can predict."""
        return self.vocab_size if self.output_vocabulary is None else len(self.output_vocabulary)

    @property
    def first_variant(self) -> str:
        """The name of the variant to take if all are available: the most exact one, else the first in the manifest."""
        return self._by_preference[0]

    @property
    def default_variant(self) -> str:
        """The name of the variant to run if none is asked for: the most preferred one that has a file in the folder."""
        names = self._by_preference
        return next((name for name in names if self.is_here(self.variants[name])), names[0])

    def is_here(self, variant: Variant) -> bool:
        """Return whether the folder has a file of `variant`; it has none if the variant was left out or deleted."""
        return any((self.folder / name).exists() for name in (variant.graph, variant.weights))

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`.

        Raises:
            OptionError: The bundle has none of that name.
        """
        if not isinstance(name, str) or name not in self.variants:
            names = ", ".join(sorted(self.variants))
            if name == PLAIN:
                raise OptionError(f"variant={name!r} is for optimum and transformers.js; to generate here, use {names}")
            raise OptionError(f"variant={brief(name)}: {self.folder} has {names}; export the model again to add one")
        return self.variants[name]

    def needed(self, names: Iterable[str]) -> list[str]:
        """Return the paths of the files that the variants `names` need: their own, and those of no variant."""
        others = {file for variant in self._all_variants for file in variant.files}
        own = {file for name in names for file in self.variant(name).files}
        return [file for file in self.files if file not in others or file in own]

    @property
    def _by_preference(self) -> list[str]:
        """Names of the variants, the exact ones first, by their error; the others in the manifest's order."""
        return sorted(self.variants, key=lambda name: self.variants[name].fidelity.get(EXACT, math.inf))

    @property
    def _all_variants(self) -> list[Variant]:
        return [*self.variants.values(), *([self.plain] if self.plain else [])]


def read_manifest(folder: Path) -> Bundle:
    """Return the bundle that the manifest in `folder` describes, without looking at its other files.

    Raises:
        BundleFileError: There is no manifest.
        BundleError: It has another format, or a value that is not allowed.
    """
    folder = folder.absolute()
    manifest = read_object(folder / MANIFEST)
    _check_format(manifest, folder)
    files = _files(manifest)
    vocab_size = manifest.integer("vocab_size", 1, MOST_PIECES)
    special = _special(manifest, vocab_size)
    bundle = Bundle(
        folder=folder,
        source=_source(manifest.fields("source")),
        context_length=manifest.integer("context_length", 1, MOST_CONTEXT),
        vocab_size=vocab_size,
        layers=manifest.integer("layers", 1, MOST_LAYERS),
        hidden_size=manifest.integer("hidden_size", 1, MOST_WIDTH),
        special=special,
        chat_template=_template(manifest.fields("chat_template")),
        stop_sequences=[_stop(stop, vocab_size) for stop in manifest.rows("stop_sequences")],
        least_onnxruntime=_matching(manifest, "least_onnxruntime", RELEASE, "a release"),
        files=files,
        variants=_variants(manifest, files),
        output_vocabulary=_output_vocabulary(manifest, vocab_size, special),
        plain=_variant(manifest.fields(PLAIN), files) if PLAIN in manifest else None,
        tools=_tools(manifest.fields("tools")) if "tools" in manifest else {},
    )
    for name in files.keys() - bundle.weights:
        if files[name].size > MOST_BYTES:
            raise manifest.refused(f": {name} has {files[name].size} bytes; only weights may exceed {MOST_BYTES}")
    return bundle


def _check_format(manifest: Fields, folder: Path) -> None:
    """Raise BundleError, with what helps, unless this release reads the bundle's format."""
    found: Any = manifest.values.get("format")
    if is_own(folder, found):
        return
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise manifest.refused(f" has format {brief(found)}; this release reads format {FORMAT}")
    if found > FORMAT:
        raise BundleError(
            f"{manifest.place} has format {brief(found)}, and this release reads format {FORMAT}; upgrade it: "
            "pip install --upgrade diffutron-ort"
        )
    if found != FORMAT:
        raise BundleError(
            f"{manifest.place} describes a bundle of format {brief(found)}, which this release does not read; export "
            f"the model again: {_export_command(manifest.values.get('source'))}"
        )


def _export_command(source: object) -> str:
    """Return the command that exports what a manifest's `source` names."""
    said = source if isinstance(source, dict) else {}
    name, *rest = (_argument(said.get(key)) for key in ("name", "revision", "adapter"))
    options = [f" --{key} {value}" for key, value in zip(("revision", "adapter"), rest, strict=True) if value]
    return f"diffutron-ort export {name or 'SOURCE'} OUT{''.join(options)}"


def _argument(value: object) -> str | None:
    """Return a name that users can copy into a command as it is, None for anything else."""
    return value if isinstance(value, str) and SOURCE_NAME.fullmatch(value) else None


def _files(manifest: Fields) -> dict[str, File]:
    files = {}
    for name, said in manifest.each("files").items():
        if not FILE_NAME.fullmatch(name):
            raise manifest.refused(
                f": the file name {brief(name)} leads out of the bundle's folder, or has characters other than "
                "letters, digits and -_.+"
            )
        files[name] = File(said.integer("size", 0, MOST_SIZE), _matching(said, "sha256", SHA256, "64 digits"))
    for name in ALWAYS:
        if name not in files:
            raise manifest.refused(f": {name!r} is not listed in its files")
    return files


def _matching(said: Fields, name: str, pattern: re.Pattern[str], what: str) -> str:
    value = said.text(name)
    if not pattern.fullmatch(value):
        raise said.wrong(name, what)
    return value


def _tools(said: Fields) -> dict[str, str]:
    return {name: said.text(name, most=100) for name in said}


def _source(said: Fields) -> dict[str, str | None]:
    return {name: said.text(name) if name in said else None for name in ("name", "revision", "adapter")}


def _special(manifest: Fields, vocab_size: int) -> SpecialIds:
    said = manifest.fields("special_ids")
    ids = {name: said.integer(name, 0, vocab_size - 1) for name in SpecialIds.__annotations__}
    if len(set(ids.values())) < len(ids) or said.values.keys() != ids.keys():
        raise manifest.wrong("special_ids", f"different ids of {', '.join(ids)}")
    return SpecialIds(**ids)


def _template(said: Fields) -> dict[str, str]:
    template = {role: said.text(role) for role in CHAT_TEMPLATE}
    for role in ROLES:
        if "{content}" not in template[role]:
            raise said.wrong(role, "a text with {content}")
    return template


def _stop(said: Fields, vocab_size: int) -> tuple[str, tuple[int, ...]]:
    text, ids = said.text("text"), said.integers("ids", 0, vocab_size - 1)
    if not text or not ids:
        raise said.refused(": a stop sequence is empty")
    return text, tuple(ids)


def _variants(manifest: Fields, files: Mapping[str, File]) -> dict[str, Variant]:
    variants = {}
    for name, said in manifest.each("variants").items():
        if not VARIANT_NAME.fullmatch(name):
            raise manifest.refused(f": {brief(name)} cannot be a variant's name")
        variants[name] = _variant(said, files)
    if not variants:
        raise manifest.wrong("variants", "at least one variant")
    return variants


def _variant(said: Fields, files: Mapping[str, File]) -> Variant:
    return Variant(
        graph=_listed(said, "graph", files),
        weights=_listed(said, "weights", files),
        fidelity=_card(said.fields("fidelity")) if "fidelity" in said else {},
        batch_invariant=said.boolean("batch_invariant") if "batch_invariant" in said else True,
        providers=_providers(said),
        generate=_listed(said, "generate", files) if "generate" in said else None,
    )


def _providers(said: Fields) -> tuple[str, ...] | None:
    """Return the providers that can run a variant, None for all."""
    if "providers" not in said:
        return None
    names = said.texts("providers")
    if not names or not all(map(PROVIDER_NAME.fullmatch, names)):
        raise said.wrong("providers", "short names of providers, such as cpu")
    return tuple(names)


def _listed(said: Fields, name: str, files: Mapping[str, File]) -> str:
    value = said.text(name)
    if value not in files:
        raise said.refused(f": {name} {brief(value)} is not listed in its files")
    if value in ALWAYS:
        raise said.refused(f": {name} is {value!r}, which belongs to no variant")
    return value


def _card(said: Fields) -> Mapping[str, Any]:
    """Return a fidelity card; the figures that it is judged by are numbers."""
    for name in (EXACT, "agreement"):
        if name in said:
            said.number(name, 0, MOST_FIGURE)
    return {name: value for name, value in said.values.items() if value is not None}


def _output_vocabulary(manifest: Fields, vocab_size: int, special: SpecialIds) -> tuple[int, ...] | None:
    if "output_vocabulary" not in manifest:
        return None
    ids = manifest.integers("output_vocabulary", 0, vocab_size - 1)
    if sorted(set(ids)) != ids:
        raise manifest.wrong("output_vocabulary", "ascending ids of the vocabulary")
    if missing := set(vars(special).values()).difference(ids):
        raise manifest.refused(f": output_vocabulary lacks the special ids {sorted(missing)}")
    return tuple(ids)
