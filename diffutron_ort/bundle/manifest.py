"""diffutron.json: what a bundle says of itself, read and checked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.bundle.unfinished import is_own
from diffutron_ort.errors import OptionError
from diffutron_ort.files import MOST_BYTES, Fields, read_object
from diffutron_ort.text.chat_template import CHAT_TEMPLATE, ROLES
from diffutron_ort.types import SpecialIds

FORMAT = 1
MANIFEST = "diffutron.json"
PLAIN = "plain"  # the manifest's key, and the exporter's name, of a graph for other programs
ALWAYS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")

# What no bundle exceeds: far beyond the real model, and small enough that nothing made in these sizes fills a memory.
MOST_CONTEXT = 2**17
MOST_PIECES = 2**22
MOST_LAYERS = 2**10
MOST_WIDTH = 2**16
MOST_SIZE = 2**42
MOST_FIGURE = 1e30  # of a fidelity card
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}){0,3}")
VARIANT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
RELEASE = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class File(NamedTuple):
    """What a manifest says of a file.

    Attributes:
        size: Bytes.
        sha256: In hexadecimal.
    """

    size: int
    sha256: str


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

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all its files, the weights last."""
        return (self.graph, *([self.generate] if self.generate else []), self.weights)


@dataclass(frozen=True)
class Bundle:
    """What a manifest says of its folder.

    Attributes:
        folder: Where the files are, absolute.
        source: Name, revision and adapter of the checkpoint that was exported.
        context_length: The most tokens, prompt and answer together, that the model was trained with.
        vocab_size: Number of pieces.
        layers: Number of layers.
        hidden_size: Width of the residual stream.
        special: The control tokens.
        chat_template: What each role's message becomes.
        stop_sequences: What ends an answer, as text and as ids.
        least_onnxruntime: The oldest release that runs the graphs.
        files: Size and SHA-256 of each, by its path relative to the bundle.
        variants: By name; at least one.
        options: The generation options in which this model differs from the package's defaults.
        output_vocabulary: The ids that the graphs can predict, ascending, one for each column of their `logits`; None
            where that is all of them.
        plain: The graph for other programs, which nothing here runs; None where there is none.
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

    @property
    def weights(self) -> set[str]:
        """The files of weights: they are hashed when they come from the Hub, not whenever they are opened."""
        return {variant.weights for variant in self._all_variants}

    @property
    def columns(self) -> int:
        """How many pieces the graphs can predict."""
        return self.vocab_size if self.output_vocabulary is None else len(self.output_vocabulary)

    @property
    def first_variant(self) -> str:
        """The name of the variant that is taken where all can be had: fp32, if the manifest lists it."""
        return self._by_preference[0]

    @property
    def default_variant(self) -> str:
        """The name of the variant that runs where none is asked for: the first of which something is in the folder."""
        names = self._by_preference
        return next((name for name in names if self.is_here(self.variants[name])), names[0])

    def is_here(self, variant: Variant) -> bool:
        """Return whether the folder has something of `variant`; one that was left out or deleted has nothing."""
        return any((self.folder / name).exists() for name in (variant.graph, variant.weights))

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`.

        Raises:
            OptionError: The bundle has none of that name.
        """
        if not isinstance(name, str) or name not in self.variants:
            there = ", ".join(sorted(self.variants))
            if name == PLAIN:
                raise OptionError(f"variant={name!r}: it is for optimum and transformers.js; to run here, take {there}")
            raise OptionError(f"variant={brief(name)}: {self.folder} has {there}; export it to add one")
        return self.variants[name]

    def needed(self, names: Iterable[str]) -> list[str]:
        """Return the paths of the files that the variants called `names` need: theirs, and those of no variant."""
        others = {file for variant in self._all_variants for file in variant.files}
        own = {file for name in names for file in self.variant(name).files}
        return [file for file in self.files if file not in others or file in own]

    @property
    def _by_preference(self) -> list[str]:
        return sorted(self.variants, key=lambda name: name != "fp32")  # which leaves the others in their order

    @property
    def _all_variants(self) -> list[Variant]:
        return [*self.variants.values(), *([self.plain] if self.plain else [])]


def read_manifest(folder: Path) -> Bundle:
    """Return the bundle that the manifest in `folder` describes, without looking at its other files.

    Raises:
        BundleFileError: There is no manifest.
        BundleError: It is of another format, or says something that has no meaning.
    """
    folder = folder.absolute()
    manifest = read_object(folder / MANIFEST)
    found = manifest.values.get("format")
    if (found != FORMAT or isinstance(found, bool)) and not is_own(folder, found):
        raise manifest.refused(f" has format {brief(found)}: this release reads {FORMAT}")
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
    )
    for name in files.keys() - bundle.weights:
        if files[name].size > MOST_BYTES:
            raise manifest.refused(f": {name} has {files[name].size} bytes; {MOST_BYTES} are the most but for weights")
    return bundle


def _files(manifest: Fields) -> dict[str, File]:
    files = {}
    for name, said in manifest.each("files").items():
        if not FILE_NAME.fullmatch(name):
            raise manifest.refused(
                f": the file name {brief(name)} leaves the bundle's folder, or has other characters than letters, "
                "digits and -_.+"
            )
        files[name] = File(said.integer("size", 0, MOST_SIZE), _matching(said, "sha256", SHA256, "64 digits"))
    for name in ALWAYS:
        if name not in files:
            raise manifest.refused(f": {name!r} is not among its files")
    return files


def _matching(said: Fields, name: str, pattern: re.Pattern[str], what: str) -> str:
    value = said.text(name)
    if not pattern.fullmatch(value):
        raise said.wrong(name, what)
    return value


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
            raise manifest.refused(f": a variant is called {brief(name)}")
        variants[name] = _variant(said, files)
    if not variants:
        raise manifest.wrong("variants", "at least one variant")
    return variants


def _variant(said: Fields, files: Mapping[str, File]) -> Variant:
    return Variant(
        graph=_listed(said, "graph", files),
        weights=_listed(said, "weights", files),
        fidelity=_card(said.fields("fidelity")) if "fidelity" in said else {},
        alone=said.boolean("alone") if "alone" in said else False,
        generate=_listed(said, "generate", files) if "generate" in said else None,
    )


def _listed(said: Fields, name: str, files: Mapping[str, File]) -> str:
    value = said.text(name)
    if value not in files:
        raise said.refused(f": {name} {brief(value)} is not among its files")
    if value in ALWAYS:
        raise said.refused(f": {name} is {value!r}, which is no variant's")
    return value


def _card(said: Fields) -> Mapping[str, Any]:
    """Return a fidelity card, of which the figures that it is judged by are numbers."""
    for name in ("max_abs_over_std", "agreement"):
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
