"""A bundle against the checkpoint that it was made from, in torch and transformers."""

from collections.abc import Iterator
from dataclasses import replace

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.checks.verify import Check, check_card
from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.graph_guard import DENOISER, checked_graph
from diffutron_ort_export.check.fidelity import Fp32Baseline, GraphForward
from diffutron_ort_export.check.verify import GraphSession, verify_exact
from diffutron_ort_export.checkpoint.source import open_source


def against_torch(bundle: Bundle, name: str, *, revision: str | None, adapter: str | None) -> Iterator[Check]:
    """Measures the fidelity of each variant anew.

    Args:
        bundle: loaded.
        name: the checkpoint's directory, or its hub id.
        revision: of a hub id.
        adapter: directory of the LoRA adapter that was merged.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    source = replace(open_source(name, revision=revision, adapter=adapter), output_vocabulary=bundle.output_vocabulary)
    baseline = Fp32Baseline(source)
    for variant, files in bundle.variants.items():
        session = GraphSession(checked_graph(bundle, files, DENOISER), source.shape, source.output_vocabulary)
        said = f"torch, {variant}"
        try:
            exact = variant == "fp32"
            card = (
                verify_exact(baseline.reference, session, variant)
                if exact
                else baseline.card(GraphForward(session), variant)
            )
            yield replace(check_card(variant, card), name=said)
        except FidelityError as error:
            yield Check(said, 1, [str(error)])
