"""Compares a bundle with the checkpoint that it was made from, in transformers: the one importer of torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.checks.verify import Check, check_card
from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.graph_guard import DENOISER, checked_graph
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.check.reductions import check_reductions
from diffutron_ort_export.check.reference import Asked, Columns
from diffutron_ort_export.check.session import GraphForward, GraphSession
from diffutron_ort_export.check.verify import verify_exact
from diffutron_ort_export.checkpoint.layout import TABLE, TIED
from diffutron_ort_export.checkpoint.source import Source, open_source


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
    baseline = Fp32Baseline(source, oracle=Transformers(source))
    for name, files in bundle.variants.items():
        session = GraphSession(checked_graph(bundle, files, DENOISER), source.shape, source.output_vocabulary)
        title = f"torch, {name}"
        try:
            yield replace(check_card(name, measured_card(baseline, session, name, exact=files.is_exact)), name=title)
        except FidelityError as error:
            yield Check(title, 1, [str(error)])


def measured_card(baseline: Fp32Baseline, session: GraphSession, name: str, *, exact: bool) -> Mapping[str, Any]:
    """Measure the fidelity card of a variant, by the error of its logits if it is exact, else by its agreement."""
    check_reductions(session, name)
    if exact:
        return verify_exact(baseline.oracle, session, name)
    forward = GraphForward(session)
    return baseline.card(baseline.rows(forward), forward, name)


class Transformers:
    """The model of transformers with eager attention, as an `Oracle`."""

    def __init__(self, source: Source, dtype: torch.dtype = torch.float32) -> None:
        config = transformers.ModernBertConfig(**source.config)
        config.reference_compile = False  # 4.57 would compile it
        config.sparse_prediction = False  # it would leave rows out
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tensors = {name: torch.from_numpy(source.weights.rows(name)) for name in source.weights.shapes}
        model = transformers.ModernBertForMaskedLM.from_pretrained(
            None,  # no path: the constructor would first spend minutes on random weights
            config=config,
            state_dict={**tensors, TIED: tensors[TABLE]},
            dtype=dtype,
            attn_implementation="eager",
        )
        self.model = model.eval().requires_grad_(False)  # type: ignore[no-untyped-call]

    def logits(self, asked: Sequence[Asked], kept: Ids | None = None) -> Floats:
        """Return the logits of all rows, as an `Oracle`."""
        return np.concatenate([self.canvas_logits(canvas, kept) for canvas in asked])

    def canvas_logits(self, canvas: Asked, kept: Ids | None) -> Floats:
        """Return the logits of one canvas's rows [n, columns]."""
        found: Floats = self.model(input_ids=torch.from_numpy(canvas.ids)[None]).logits[0].numpy()[canvas.rows]
        return found if kept is None else found[:, kept]

    def parts(self, asked: Sequence[Asked], kept: Ids | None = None) -> Iterator[Columns]:
        """Yield the logits of all rows in one part."""
        logits = self.logits(asked, kept)
        yield Columns(np.arange(logits.shape[1]) if kept is None else kept, logits)
