"""From a checkpoint to the files of a bundle, step by step."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module

from diffutron_ort.bundle.conformance import CONFORMANCE
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.bundle.unfinished import UNFINISHED, opened_unfinished
from diffutron_ort.errors import DiffutronError
from diffutron_ort.memory import return_memory, returning_large_blocks
from diffutron_ort_export import bundle_writer as bundle
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.checkpoint.output_vocabulary import read_output_vocabulary
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.splice import splice
from diffutron_ort_export.progress import Report
from diffutron_ort_export.recipes import RECIPES, Recipe
from diffutron_ort_export.recorder import record
from diffutron_ort_export.request import Request, resolve_context
from diffutron_ort_export.staging import Stage, write_json
from diffutron_ort_export.variants import Card, Job, Options


def fill(stage: Stage, request: Request, report: Report) -> None:
    """Write the bundle that is requested into a stage, its manifest last.

    Args:
        stage: The stage to write into.
        request: The checked request.
        report: Called as each step begins, except the first, which is reading the checkpoint.
    """
    recipes = [RECIPES[name] for name in request.variants]
    check_requirements(recipes)
    source = read(request)
    return_memory()
    length = resolve_context(request.context_length, source.name, source.shape.positions)
    with stage.writing(), returning_large_blocks():
        bundle.write_settings(source, stage.folder, length)
        cards = write_variants(recipes, source, request, stage, report)
        report(f"recording what {request.out} does", 0.2)
        manifest = bundle.manifest(source, stage.folder, length, cards)
        write_json(stage.folder / MANIFEST, manifest | {"format": UNFINISHED})
        with opened_unfinished(stage.folder):
            recorded = record(stage.folder)
        write_json(stage.folder / CONFORMANCE, recorded)
        report(f"finishing {request.out}", 0.1)
        write_json(stage.manifest, manifest | {"files": bundle.files(stage.folder)})


def check_requirements(recipes: Sequence[Recipe]) -> None:
    """Import what the variants need beyond the extra `[export]`, before any work begins.

    Raises:
        DiffutronError: A module cannot be imported.
    """
    for recipe in recipes:
        if (needed := recipe.requirement) is not None:
            try:
                import_module(needed.module)
            except ImportError as error:
                raise DiffutronError(
                    f"variant {recipe.name} needs {needed.tool} ({error}): {needed.install}"
                ) from error


def read(request: Request) -> Source:
    """Return the requested checkpoint, with its output vocabulary."""
    source = open_source(request.source, revision=request.revision, adapter=request.adapter)
    if request.output_vocabulary is None:
        return source
    ids = read_output_vocabulary(request.output_vocabulary, source.tokenizer)
    return replace(source, output_vocabulary=tuple(ids.tolist()))


def write_variants(
    recipes: Sequence[Recipe], source: Source, request: Request, stage: Stage, report: Report
) -> dict[Recipe, Card]:
    """Write the graphs and weights of all variants, and return the fidelity card of each."""
    baseline = Fp32Baseline(source, thorough=request.thorough)
    options = Options(request.exclude, request.accept)
    cards: dict[Recipe, Card] = {}
    for recipe in recipes:
        report(f"writing and verifying {recipe.name}", 0.5 / len(recipes))
        path = bundle.file_path(stage.folder, recipe.graph)
        known = {written.name: card for written, card in cards.items()}
        cards[recipe] = writer(recipe)(Job(recipe.name, path, bundle.provenance(source), baseline, options, known))
        if recipe.third_party:
            continue
        if not recipe.shares:  # the loop generates one sequence, for which the other variant is the faster
            splice(path, bundle.file_path(stage.folder, recipe.generation))
        cards[recipe] |= {} if source.output_vocabulary is None else {"output_vocabulary": baseline.coverage()}
    return cards


def writer(recipe: Recipe) -> Callable[[Job], Card]:
    """Return the function that writes a variant."""
    module, _, function = recipe.writer.partition(":")
    found: Callable[[Job], Card] = getattr(import_module(f"diffutron_ort_export.{module}"), function)
    return found
