"""The files of a bundle as fuzzing targets: each is fed to the code that reads it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from diffutron_ort.bundle.load import load_bundle

from .mutate import mutated_graph, mutated_json
from .supervise import Target

NANO = load_bundle().folder
TEXTS = ("On iki artı beş kaç eder?", "  a\n\n\tb <mask> \U0001f600\x00", "İıi̇" * 300, "")
SEEDS = Path(__file__).parent / "seeds"


def seeds(name: str, *others: Path) -> list[bytes]:
    """Return the files to mutate: `others`, and those in the folder `seeds`, which failed once."""
    kept = sorted((SEEDS / name).glob("*")) if (SEEDS / name).is_dir() else []
    return [path.read_bytes() for path in (*others, *kept)]


def bundle() -> Path:
    """Return a copy of nano's bundle to write mutants into."""
    from diffutron_ort.bundle.manifest import MANIFEST, read_manifest

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for name in (MANIFEST, *read_manifest(NANO).files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(NANO / name, folder / name)
    return folder


def manifest() -> Callable[[bytes], object]:
    """Read a manifest, check its files, and check its fidelity cards."""
    from diffutron_ort.checks.verify import check_card

    folder = bundle()

    def run(content: bytes) -> None:
        (folder / "diffutron.json").write_bytes(content)
        loaded = load_bundle(folder)
        for name, variant in loaded.variants.items():
            check_card(name, variant.fidelity)

    return run


def generation_config() -> Callable[[bytes], object]:
    """Load a bundle with changed options, and make a configuration of them."""
    from diffutron_ort.config import GenerationConfig

    folder = bundle()

    def run(content: bytes) -> None:
        _put(folder, "generation_config.json", content)
        GenerationConfig(**load_bundle(folder).options)

    return run


def conformance() -> Callable[[bytes], object]:
    """Read recorded cases, and replay those that need no pass of the model."""
    from diffutron_ort import Diffutron
    from diffutron_ort.bundle.conformance import read_pack
    from diffutron_ort.bundle.manifest import File
    from diffutron_ort.checks.replay import wrong_chats, wrong_tokens, wrong_uniforms

    model = Diffutron.from_pretrained(bundle())
    path = model.bundle.folder / "conformance.json"

    def run(content: bytes) -> None:
        path.write_bytes(content)
        now = File(len(content), hashlib.sha256(content).hexdigest())
        pack = read_pack(replace(model.bundle, files={**model.bundle.files, path.name: now}))
        wrong_tokens(pack.tokens, model.tokenizer)
        wrong_chats(pack.chats, model.bundle.chat_template)
        wrong_uniforms(pack.uniforms)
        for case in pack.generations:
            case.canvas(model.bundle.special.mask)

    return run


def tokenizer() -> Callable[[bytes], object]:
    """Load a tokenizer; encode, with and without masks, and decode."""
    from diffutron_ort.text.tokenizer import Tokenizer

    nano = load_bundle()

    def run(content: bytes) -> None:
        loaded = Tokenizer(content, "tokenizer.json", nano.vocab_size, nano.special)
        for text in TEXTS:
            loaded.decode(loaded.encode(text))
            loaded.encode_masked(text)

    return run


def graph(name: str, kind: str) -> Callable[[bytes], object]:
    """Check a graph as before ONNX Runtime opens it."""
    from diffutron_ort.runtime import graph_guard

    weights = graph_guard.Weights("denoiser.onnx.data", (NANO / "onnx" / "denoiser.onnx.data").stat().st_size)
    return partial(graph_guard.check_graph, kind=getattr(graph_guard, kind), weights=weights, name=name)


def _put(folder: Path, name: str, content: bytes) -> None:
    """Write a file of a bundle, and update its entry in the manifest."""
    import json

    (folder / name).write_bytes(content)
    path = folder / "diffutron.json"
    manifest = json.loads((NANO / path.name).read_bytes())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))


TARGETS = {
    target.name: target
    for target in (
        Target("manifest", partial(seeds, "manifest", NANO / "diffutron.json"), mutated_json, manifest),
        Target(
            "generation_config",
            partial(seeds, "generation_config", NANO / "generation_config.json"),
            mutated_json,
            generation_config,
        ),
        *(
            Target(
                stem, partial(seeds, stem, NANO / "onnx" / f"{stem}.onnx"), mutated_graph, partial(graph, stem, kind)
            )
            for stem, kind in (("denoiser", "DENOISER"), ("generate", "GENERATION"))
        ),
        Target("tokenizer", partial(seeds, "tokenizer", NANO / "tokenizer.json"), mutated_json, tokenizer),
        Target("conformance", partial(seeds, "conformance", NANO / "conformance.json"), mutated_json, conformance),
    )
}
