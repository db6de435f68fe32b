"""Verify a bundle: its files against the manifest, and what it does here against what it did when exported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.conformance import Case, Pack, read_pack
from diffutron_ort.bundle.integrity import check_file, read_checked
from diffutron_ort.bundle.load import TOKENIZER, load_bundle
from diffutron_ort.bundle.manifest import EXACT, PLAIN, Bundle
from diffutron_ort.checks.replay import wrong_answer, wrong_chats, wrong_steps, wrong_tokens, wrong_uniforms
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.generation import Generation, missing_options
from diffutron_ort.runtime.graph_guard import check_graphs
from diffutron_ort.text.tokenizer import Tokenizer

MOST_ERROR = 1e-3
"""The largest allowed error of a float32 logit, in standard deviations of the logits."""

LEAST_AGREEMENT = 0.9
"""The least share of clear rows in which a quantized variant must have float32's best token."""

LEAST_SAME = 0.9
"""The least share of equal tokens in a quantized variant's generations: rounding differs between processors."""


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: A word or two.
        total: The number of things compared.
        differences: One message each; none if the check passed.
        note: A figure or a remark.
    """

    name: str
    total: int
    differences: Sequence[str] = ()
    note: str = ""


def verify(
    model: str | Path | None = None, revision: str | None = None, *, variant: str | None = None
) -> Iterator[Check]:
    """Check a bundle, and yield each check as it is done.

    Args:
        model: A folder, or a hub id; None is the embedded model.
        revision: A commit, tag or branch of a hub id.
        variant: The only variant to check; None checks all that are in the folder.

    Raises:
        BundleError: A file is missing, changed or malformed.
        OptionError: The bundle has no such variant.
        ProviderError: ONNX Runtime fails.
    """
    bundle = load_bundle(model, revision, variant=variant)
    names = [name for name, v in bundle.variants.items() if bundle.is_here(v)] if variant is None else [variant]
    absent = sorted(bundle.variants.keys() - set(names))
    bundle = _restricted(bundle, names, plain=variant is None)
    yield _check_files(bundle, absent)
    yield Check("graphs", check_graphs(bundle), note="what they hold")
    yield from _check_cards(bundle)
    yield from _check_cases(bundle, read_pack(bundle))


def _restricted(bundle: Bundle, names: Sequence[str], *, plain: bool) -> Bundle:
    """Return a bundle with only the variants called `names` and, if `plain`, the plain graph if it is in the folder."""
    graph = bundle.plain if plain and bundle.plain is not None and bundle.is_here(bundle.plain) else None
    files = {*bundle.needed(names), *(graph.files if graph else ())}
    return replace(
        bundle,
        variants={name: bundle.variants[name] for name in names},
        plain=graph,
        files={name: file for name, file in bundle.files.items() if name in files},
    )


def _check_files(bundle: Bundle, absent: Sequence[str]) -> Check:
    """Check the size and the hash of every file."""
    for name in bundle.files:
        check_file(bundle, name, hashed=True)
    note = "; ".join(["sizes and SHA-256", *(f"{name}: not checked" for name in absent)])
    return Check("files", len(bundle.files), note=note)


def _check_cards(bundle: Bundle) -> Iterator[Check]:
    for name, variant in bundle.variants.items():
        yield check_card(name, variant.fidelity)
    if bundle.plain is not None:
        yield check_card(PLAIN, bundle.plain.fidelity)


def check_card(name: str, card: Mapping[str, Any]) -> Check:
    """Check the fidelity card of the variant called `name` against the thresholds."""
    if EXACT in card:
        error = card[EXACT]
        bad = [] if error <= MOST_ERROR else [f"a logit is {error:.2g} standard deviations off; allowed: {MOST_ERROR}"]
        return Check(f"fidelity of {name}", 1, bad, f"logits within {error:.2g} standard deviations")
    share = card.get("agreement", 0.0)
    bad = [] if share >= LEAST_AGREEMENT else [f"float32's best token in {share:.1%} of the clear rows"]
    return Check(f"fidelity of {name}", 1, bad, f"float32's best token in {share:.1%} of the clear rows")


def _check_cases(bundle: Bundle, pack: Pack) -> Iterator[Check]:
    """Run the recorded cases again, and compare the results."""
    name, content = str(bundle.folder / TOKENIZER), read_checked(bundle, TOKENIZER)
    tokenizer = Tokenizer(content, name, bundle.vocab_size, bundle.special)
    yield _check_some("tokens", pack.tokens, wrong_tokens(pack.tokens, tokenizer))
    yield _check_some("chats", pack.chats, wrong_chats(pack.chats, bundle.chat_template))
    yield _check_some("uniforms", pack.uniforms, wrong_uniforms(pack.uniforms))
    for variant in bundle.variants:
        yield from _check_generations(variant, bundle, [case for case in pack.generations if case.variant == variant])


def _check_some(name: str, cases: Sequence[object], differences: Sequence[str]) -> Check:
    """Return a check of cases, which fails if there are none."""
    return Check(name, len(cases), differences or ([] if cases else [f"there is no case of {name} to compare with"]))


def _check_generations(name: str, bundle: Bundle, cases: Sequence[Case]) -> Iterator[Check]:
    """Replay a variant's cases with the loop, and those whose options it supports with the generation graph."""
    model = Diffutron.from_pretrained(bundle.folder, variant=name)
    yield _check_replay(f"loop, {name}", cases, [wrong_steps(case, model) for case in cases])
    if bundle.variants[name].generate is None:
        yield Check(f"graph, {name}", 0, ["the variant has no generation graph; export the model again"])
        return
    generation = Generation(bundle, name)
    cases = [case for case in cases if not missing_options(case.config)]
    yield _check_replay(f"graph, {name}", cases, [wrong_answer(case, generation, model) for case in cases])


def _check_replay(name: str, cases: Sequence[Case], found: Sequence[tuple[list[str], float]]) -> Check:
    """Check replayed cases, given the differences and the share of equal tokens of each.

    Any difference in an exact case is a failure; the other cases are checked by their mean share of equal tokens. No
    case at all is a failure too.
    """
    differences = [text for case, (wrong, _) in zip(cases, found, strict=True) if case.exact for text in wrong]
    shares = [share for case, (_, share) in zip(cases, found, strict=True) if not case.exact]
    if not shares:
        return replace(_check_some(name, cases, differences), note="every step")
    share = sum(shares) / len(shares)
    if share < LEAST_SAME:
        differences.append(f"{share:.1%} of the tokens are the same; {LEAST_SAME:.0%} is the least")
    return Check(name, len(cases), differences, f"{share:.1%} of the tokens are the same")
