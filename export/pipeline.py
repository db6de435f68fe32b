"""From a checkpoint to the files of a bundle, step by step."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module

from diffutron_ort.bundle.conformance import CONFORMANCE
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.bundle.unfinished import UNFINISHED, opened_unfinished
from diffutron_ort.errors import DiffutronError
from diffutron_ort_export import bundle_writer as bundle
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.checkpoint.output_vocabulary import read_output_vocabulary
from diffutron_ort_export.checkpoint.source import Source, open_source
from diffutron_ort_export.graph.splice import splice
from diffutron_ort_export.progress import Report
from diffutron_ort_export.recipes import RECIPES, Recipe
from diffutron_ort_export.recorder import record
from diffutron_ort_export.request import Request, context
from diffutron_ort_export.staging import Stage, write_json
from diffutron_ort_export.variants import Card, Job, Options


def fill(stage: Stage, request: Request, report: Report) -> None:
    """Write what is asked for into a stage, and its manifest last.

    Args:
        stage: where to.
        request: what is asked for.
        report: is told of each step as it begins, after the first, which is reading.
    """
    recipes = [RECIPES[name] for name in request.variants]
    check_requirements(recipes)
    source = read(request)
    length = context(request.context_length, source.name, source.shape.positions)
    with stage.writing():
        bundle.write_settings(source, stage.folder, length)
        cards = write_variants(recipes, source, request, stage, report)
        report(f"recording what {request.out} does", 0.2)
        manifest = bundle.manifest(source, stage.folder, length, cards)
        write_json(stage.folder / MANIFEST, manifest | {"format": UNFINISHED})
        with opened_unfinished(stage.folder):
            recorded = record(stage.folder, source, [recipe for recipe in recipes if not recipe.third_party])
        write_json(stage.folder / CONFORMANCE, recorded)
        report(f"finishing {request.out}", 0.1)
        write_json(stage.manifest, manifest | {"files": bundle.files(stage.folder)})


def read(request: Request) -> Source:
    """Return the checkpoint that is asked for, with its output vocabulary."""
    source = open_source(request.source, revision=request.revision, adapter=request.adapter)
    if request.output_vocabulary is None:
        return source
    return replace(
        source, output_vocabulary=tuple(read_output_vocabulary(request.output_vocabulary, source.tokenizer).tolist())
    )


def check_requirements(recipes: Sequence[Recipe]) -> None:
    """Refuse to begin where something that a variant is made with cannot be imported.

    Raises:
        DiffutronError: It is not installed, or not with what it needs itself.
    """
    for recipe in recipes:
        if (needed := recipe.requirement) is not None:
            try:
                import_module(needed.module)
            except ImportError as error:
                raise DiffutronError(
                    f"variant {recipe.name} needs {needed.tool} ({error}): {needed.install}"
                ) from error


def writer(recipe: Recipe) -> Callable[[Job], Card]:
    """Return the function that a row names."""
    module, _, function = recipe.writer.partition(":")
    found: Callable[[Job], Card] = getattr(import_module(f"diffutron_ort_export.{module}"), function)
    return found


def write_variants(
    recipes: list[Recipe], source: Source, request: Request, stage: Stage, report: Report
) -> dict[Recipe, Card]:
    """Write the graphs and weights, and return each variant's fidelity card."""
    baseline, options = Fp32Baseline(source), Options(request.exclude, request.accept)
    cards = {}
    for recipe in recipes:
        report(f"writing and verifying {recipe.name}", 0.5 / len(recipes))
        place = bundle.place(stage.folder, recipe.graph)
        cards[recipe] = writer(recipe)(Job(recipe.name, place, bundle.provenance(source), baseline, options))
        if recipe.third_party:
            continue
        splice(place, bundle.place(stage.folder, recipe.generation))
        cards[recipe] |= {} if source.output_vocabulary is None else {"output_vocabulary": baseline.coverage()}
    return cards
