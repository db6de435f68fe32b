"""Writes the plain graph, onnx/model.onnx, by optimum's exporter: for optimum and transformers.js, not for the engine.

int64 `input_ids` and `attention_mask` [batch_size, sequence_length] -> float32 `logits` [batch_size, sequence_length,
vocab], for every token and the whole vocabulary.
"""

import contextlib
import copy
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import transformers
from numpy.typing import NDArray

from diffutron_ort_export.check.verify import (
    SEED,
    GraphSession,
    Ids,
    Outputs,
    exact_card,
    long_case,
    longest,
    padded_case,
    random_tokens,
)
from diffutron_ort_export.checkpoint.layout import TABLE, TIED
from diffutron_ort_export.graph.onnx_graph import quiet
from diffutron_ort_export.staging import write_json
from diffutron_ort_export.variants import Card, Job

TOOLS = ("optimum", "optimum-onnx")


def write_plain(job: Job) -> Card:
    """Write float32 with all logits, which must equal transformers."""
    reference = copy.copy(job.baseline.reference)
    reference.columns = slice(None)  # other programs index logits by id, so no output vocabulary applies
    save(reference.model, job.path, job.provenance)
    configure_transformers_js(job.path)
    session, random = FullLogitsSession(job.path, job.baseline.source.shape), np.random.default_rng(SEED)
    shape, length = session.shape, longest(session.shape)
    cases = [
        long_case(reference, session, random_tokens(random, shape, 1, length)),
        padded_case(reference, session, random_tokens(random, shape, 3, length // 2 + 1)),
    ]
    return exact_card(cases, job.name)


def save(model: transformers.PreTrainedModel, path: Path, provenance: Mapping[str, str]) -> None:
    """Export a model to `path`; beyond 2 GB its weights go to `path` + "_data"."""
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager
    from optimum.onnx import remove_duplicate_weights_from_tied_info

    settings = TasksManager.get_exporter_config_constructor(
        "onnx", model=model, task="fill-mask", library_name="transformers"
    )(model.config)
    made_by = {name: importlib.metadata.version(name) for name in TOOLS}
    with silence():
        export(model, settings, path, opset=settings.DEFAULT_ONNX_OPSET)
        graph = onnx.load(path)
        onnx.helper.set_model_props(graph, {**provenance, **made_by})
        # Tracing writes the table twice, once transposed for the head: 786 MB more at the real size.
        remove_duplicate_weights_from_tied_info(graph, model, [[TIED, TABLE]], save_path=str(path))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Silence what optimum and tracing print for each tied weight and constant."""
    from optimum.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet():
            yield
    finally:
        logging.set_verbosity(level)


def weights(graph: Path) -> Path:
    """Return the file with a plain graph's weights: one beside the graph, or the graph itself."""
    beside = graph.with_name(f"{graph.name}_data")
    return beside if beside.exists() else graph


def configure_transformers_js(graph: Path) -> None:
    """Name the files in config.json: else it looks for an 8-bit graph on WASM, and for no weights beside the graph."""
    beside = {} if weights(graph) == graph else {"use_external_data_format": {graph.name: True}}
    path = graph.parents[1] / "config.json"
    config = json.loads(path.read_text("utf-8")) | {"transformers.js_config": {"dtype": "fp32", **beside}}
    write_json(path, config)


class FullLogitsSession(GraphSession):
    """The plain graph in ONNX Runtime with a denoiser's interface, without past, penalty and temperature."""

    def run(self, ids: Ids, positions: Ids, rows: Ids, **others: NDArray[Any]) -> Outputs:
        """Run one pass."""
        assert not others, "the graph has no other inputs"
        feed = {"input_ids": ids, "attention_mask": (positions >= 0).astype(np.int64)}
        [logits] = self.session.run(["logits"], feed)
        return {"logits": logits.reshape(-1, logits.shape[-1])[rows]}
