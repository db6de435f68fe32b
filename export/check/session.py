"""A denoiser's graph in ONNX Runtime on the CPU, to be checked before there is a bundle around it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import (
    DENOISER_INPUTS,
    DENOISER_OUTPUTS,
    OWN_INPUTS,
    REDUCTIONS,
    PassInput,
    Predictions,
    for_layers,
)
from diffutron_ort.types import Ids
from diffutron_ort_export.checkpoint.architecture import Shape

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default since 1.29, and read at import
import onnxruntime

Outputs = Mapping[str, NDArray[Any]]

SHARED_OUTPUTS = tuple(value.name for value in DENOISER_OUTPUTS if not value.per_layer)
"""The outputs other than keys and values."""


class GraphSession:
    """A graph, with defaults for the inputs that a pass leaves out."""

    def __init__(self, graph: Path, shape: Shape, output_vocabulary: Sequence[int] | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")  # 8-bit products that never saturate
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.shape = shape
        self.kept = None if output_vocabulary is None else np.array(output_vocabulary)
        self.predicted_ids = np.arange(shape.vocab_size) if self.kept is None else self.kept  # [columns]

    def run(
        self, ids: Ids, positions: Ids, rows: Ids, *, fetch: Sequence[str] | None = None, **others: NDArray[Any]
    ) -> Outputs:
        """Run one pass.

        Args:
            ids: int64 [batch, seq].
            positions: int64 [batch, seq].
            rows: int64 [n].
            fetch: The names of the outputs to return; None means all.
            others: More inputs of the graph. By default there is no past, no penalty, no suppressed and no target id,
                the temperature is 1, and logits and entropy are wanted.
        """
        names = [value.name for value in for_layers(DENOISER_OUTPUTS, self.shape.layers)] if fetch is None else fetch
        own = {"input_ids": ids, "position_ids": positions, "rows": rows}
        feed = self.defaults(len(ids), len(rows)) | own | others
        return dict(zip(names, self.session.run(list(names), feed), strict=True))

    def defaults(self, batch: int, n: int) -> dict[str, NDArray[Any]]:
        """Return an input for everything that a pass may leave out."""
        sizes = {"batch": batch, "n": n, "hidden": self.shape.hidden_size, "past": 0, "u": 0, "s": 0, "t": 0, "seq": 0}
        filled = {"repetition_penalty": 1, "temperature": 1, "want_logits": 1, "want_entropy": 1}
        return {
            value.name: np.full(value.shape(sizes), filled.get(value.name, 0), value.dtype)
            for value in for_layers(DENOISER_INPUTS, self.shape.layers)
        }


class GraphForward:
    """A graph as a model for the engine, which computes all tokens in every pass."""

    batch_invariant = False  # not every variant is

    def __init__(self, session: GraphSession) -> None:
        self.session = session

    def __call__(self, given: PassInput, /) -> Predictions:
        """Run one pass. Its logits have a column for each id that the graph can predict."""
        own = {name: np.asarray(getattr(given, name)) for name in OWN_INPUTS}
        ids, positions, rows = own.pop("input_ids"), own.pop("position_ids"), own.pop("rows")
        names = (*REDUCTIONS, "target_logits", *(["logits"] if given.want_logits else []))
        found: Mapping[str, Any] = self.session.run(ids, positions, rows, fetch=names, **own)
        return Predictions(**found)
