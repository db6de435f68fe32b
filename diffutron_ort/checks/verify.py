"""Whether a bundle is what its manifest says, and does here what it did where it was made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.conformance import Case, read_pack
from diffutron_ort.bundle.integrity import check_file, read_checked
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import PLAIN, Bundle
from diffutron_ort.checks.replay import wrong_answer, wrong_chats, wrong_steps, wrong_tokens, wrong_uniforms
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.generation import Generation, missing_options
from diffutron_ort.runtime.graph_guard import check_graphs
from diffutron_ort.text.tokenizer import Tokenizer

MOST_ERROR = 1e-3
"""The largest difference of a float32 logit that is allowed, in standard deviations of the logits."""

LEAST_AGREEMENT = 0.9
"""The least share of clear rows in which a quantized variant has float32's best token."""

LEAST_SAME = 0.9
"""The least share of same tokens in the generations of a quantized variant, which other processors may round apart."""


@dataclass(frozen=True)
class Check:
    """What was looked at.

    Attributes:
        name: In a word or two.
        total: How many things were compared.
        differences: In words; none if all is well.
        note: A figure that belongs to it.
    """

    name: str
    total: int
    differences: Sequence[str] = ()
    note: str = ""


def verify(
    model: str | Path | None = None, revision: str | None = None, *, variant: str | None = None
) -> Iterator[Check]:
    """Check a bundle; yields what was looked at as it goes.

    Args:
        model: A folder, or a hub id; None is the embedded model.
        revision: Of a hub id.
        variant: The only one to check; None is all that are in the folder.

    Raises:
        BundleError: A file is missing, changed or malformed.
        OptionError: The bundle has no such variant.
        ProviderError: ONNX Runtime fails.
    """
    bundle = load_bundle(model, revision, variant=variant)
    names = [name for name, v in bundle.variants.items() if bundle.is_here(v)] if variant is None else [variant]
    absent = sorted(bundle.variants.keys() - set(names))
    bundle = _restricted(bundle, names, plain=variant is None)
    yield _files(bundle, absent)
    yield Check("graphs", check_graphs(bundle), note="what they hold")
    for name in names:
        yield fidelity(name, bundle.variants[name].fidelity)
    if bundle.plain is not None:
        yield fidelity(PLAIN, bundle.plain.fidelity)
    pack = read_pack(bundle)
    name, content = str(bundle.folder / "tokenizer.json"), read_checked(bundle, "tokenizer.json")
    tokenizer = Tokenizer(content, name, bundle.vocab_size, bundle.special)
    yield _some("tokens", pack.tokens, wrong_tokens(pack.tokens, tokenizer))
    yield _some("chats", pack.chats, wrong_chats(pack.chats, bundle.chat_template))
    yield _some("uniforms", pack.uniforms, wrong_uniforms(pack.uniforms))
    for name in names:
        yield from generations(name, bundle, [case for case in pack.generations if case.variant == name])


def _restricted(bundle: Bundle, names: Sequence[str], *, plain: bool) -> Bundle:
    """Return the part of a bundle that the variants called `names` are, and its plain graph where it is there."""
    graph = bundle.plain if plain and bundle.plain is not None and bundle.is_here(bundle.plain) else None
    files = {*bundle.needed(names), *(graph.files if graph else ())}
    return replace(
        bundle,
        variants={name: bundle.variants[name] for name in names},
        plain=graph,
        files={name: file for name, file in bundle.files.items() if name in files},
    )


def _files(bundle: Bundle, absent: Sequence[str]) -> Check:
    """Hash every file."""
    for name in bundle.files:
        check_file(bundle, name, hashed=True)
    note = "; ".join(["sizes and SHA-256", *(f"{name}: not checked" for name in absent)])
    return Check("files", len(bundle.files), note=note)


def _some(name: str, cases: Sequence[object], differences: Sequence[str]) -> Check:
    """Return the check of cases, of which there have to be some."""
    return Check(name, len(cases), differences or ([] if cases else [f"there is no case of {name} to compare with"]))


def fidelity(name: str, card: Mapping[str, Any]) -> Check:
    """Judge a variant by what its card says of it."""
    if "max_abs_over_std" in card:
        error = card["max_abs_over_std"]
        bad = [] if error <= MOST_ERROR else [f"a logit is {error:.2g} standard deviations off; allowed: {MOST_ERROR}"]
        return Check(f"fidelity of {name}", 1, bad, f"logits within {error:.2g} standard deviations")
    share = card.get("agreement", 0.0)
    bad = [] if share >= LEAST_AGREEMENT else [f"float32's best token in {share:.1%} of the clear rows"]
    return Check(f"fidelity of {name}", 1, bad, f"float32's best token in {share:.1%} of the clear rows")


def generations(name: str, bundle: Bundle, cases: Sequence[Case]) -> Iterator[Check]:
    """Replay a variant's cases with the loop and, as far as it has their options, with the graph of the whole."""
    model = Diffutron.from_pretrained(bundle.folder, variant=name)
    yield judged(f"loop, {name}", cases, [wrong_steps(case, model) for case in cases])
    if bundle.variants[name].generate is None:
        yield Check(f"graph, {name}", 0, ["there is no graph of the whole generation; export the model again"])
        return
    generation = Generation(bundle, name)
    cases = [case for case in cases if not missing_options(case.config)]
    yield judged(f"graph, {name}", cases, [wrong_answer(case, generation, model) for case in cases])


def judged(name: str, cases: Sequence[Case], found: Sequence[tuple[list[str], float]]) -> Check:
    """Judge exact cases by every difference, and the others by the share of same tokens; no case at all is a miss."""
    differences = [text for case, (wrong, _) in zip(cases, found, strict=True) if case.exact for text in wrong]
    shares = [share for case, (_, share) in zip(cases, found, strict=True) if not case.exact]
    if not shares:
        return replace(_some(name, cases, differences), note="every step")
    share = sum(shares) / len(shares)
    if share < LEAST_SAME:
        differences.append(f"{share:.1%} of the tokens are the same; {LEAST_SAME:.0%} is the least")
    return Check(name, len(cases), differences, f"{share:.1%} of the tokens are the same")
