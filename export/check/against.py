"""Compares a bundle with the checkpoint that it was made from, in torch and transformers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.checks.verify import Check, check_card
from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.graph_guard import DENOISER, checked_graph
from diffutron_ort_export.check.fidelity import Fp32Baseline, GraphForward
from diffutron_ort_export.check.verify import GraphSession, verify_exact
from diffutron_ort_export.checkpoint.source import open_source


def against_torch(bundle: Bundle, checkpoint: str, *, revision: str | None, adapter: str | None) -> Iterator[Check]:
    """Measure the fidelity of each variant again, and yield a check of each.

    Args:
        bundle: The loaded bundle.
        checkpoint: The directory or the hub id of the checkpoint.
        revision: A branch, tag or commit of a hub id.
        adapter: The directory of the LoRA adapter that was merged.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    source = replace(
        open_source(checkpoint, revision=revision, adapter=adapter), output_vocabulary=bundle.output_vocabulary
    )
    baseline = Fp32Baseline(source)
    for name, files in bundle.variants.items():
        session = GraphSession(checked_graph(bundle, files, DENOISER), source.shape, source.output_vocabulary)
        title = f"torch, {name}"
        try:
            yield replace(check_card(name, measured_card(baseline, session, name, exact=files.is_exact)), name=title)
        except FidelityError as error:
            yield Check(title, 1, [str(error)])


def measured_card(baseline: Fp32Baseline, session: GraphSession, name: str, *, exact: bool) -> Mapping[str, Any]:
    """Measure the fidelity card of a variant, by the error of its logits if it is exact, else by its agreement."""
    return verify_exact(baseline.reference, session, name) if exact else baseline.card(GraphForward(session), name)
