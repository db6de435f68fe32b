"""Writes the plain graph, onnx/model.onnx, by optimum's exporter: for optimum and transformers.js, not for the engine.

int64 `input_ids` and `attention_mask` [batch_size, sequence_length] -> float32 `logits` [batch_size, sequence_length,
vocab], for every token and the whole vocabulary.
"""

import contextlib
import importlib.metadata
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from diffutron_ort.types import Ids
from diffutron_ort_export.check.session import GraphSession, Outputs
from diffutron_ort_export.check.verify import (
    SEED,
    compared,
    exact_card,
    lengths,
    long_trial,
    longest,
    padded_trial,
    random_tokens,
)
from diffutron_ort_export.checkpoint.layout import TABLE, TIED
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.staging import write_json
from diffutron_ort_export.variants import Card, Job

TOOLS = ("optimum", "optimum-onnx", "torch", "transformers")


def write_plain(job: Job) -> Card:
    """Write float32 with all logits, which must equal the reference."""
    with tempfile.TemporaryDirectory(dir=job.path.parent, prefix=".checkpoint-") as folder:
        save_checkpoint(job.baseline.source, Path(folder))
        save(Path(folder), job.path, job.provenance)
    configure_transformers_js(job.path)
    session, random = FullLogitsSession(job.path, job.baseline.source.shape), np.random.default_rng(SEED)
    shape, length = session.shape, longest(session.shape)
    trials = [
        long_trial(session, random_tokens(random, shape, length)),
        padded_trial(session, [random_tokens(random, shape, n) for n in lengths(length // 2 + 1)]),
    ]
    # Other programs index logits by id, so no output vocabulary applies.
    return exact_card(compared(job.baseline.oracle, trials, None), job.name)


def save_checkpoint(source: Source, folder: Path) -> None:
    """Write a checkpoint that transformers loads: float32, without padding, with the adapter merged."""
    write_json(folder / "config.json", source.config)
    header, end = {}, 0
    for name, shape in source.weights.shapes.items():
        first, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [first, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            for rows in source.weights.chunks(name):
                file.write(rows.astype("<f4", copy=False).tobytes())


def save(checkpoint: Path, path: Path, provenance: Mapping[str, str]) -> None:
    """Export a checkpoint's folder to `path`; beyond 2 GB its weights go to `path` + "_data"."""
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager
    from optimum.onnx import remove_duplicate_weights_from_tied_info

    made_by = {name: importlib.metadata.version(name) for name in TOOLS}
    with silence():
        model = TasksManager.get_model_from_task("fill-mask", str(checkpoint), library_name="transformers")
        settings = TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task="fill-mask", library_name="transformers"
        )(model.config)
        export(model, settings, path, opset=settings.DEFAULT_ONNX_OPSET)
        graph = onnx.load(path)
        onnx.helper.set_model_props(graph, {**provenance, **made_by})
        # Tracing writes the table twice, once transposed for the head: 786 MB more at the real size.
        remove_duplicate_weights_from_tied_info(graph, model, [[TIED, TABLE]], save_path=str(path))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Silence what optimum and tracing print for each tied weight and constant."""
    from optimum.utils import logging as optimums

    before, torchs = optimums.get_verbosity(), logging.getLogger("torch.onnx")
    level = torchs.level
    optimums.set_verbosity_error()
    torchs.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optimums.set_verbosity(before)
        torchs.setLevel(level)


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

    def run(
        self, ids: Ids, positions: Ids, rows: Ids, *, fetch: Sequence[str] | None = None, **others: NDArray[Any]
    ) -> Outputs:
        """Run one pass."""
        assert fetch == ["logits"], "the graph has no other output"
        assert not others, "the graph has no other inputs"
        feed = {"input_ids": ids, "attention_mask": (positions >= 0).astype(np.int64)}
        [logits] = self.session.run(["logits"], feed)
        return {"logits": logits.reshape(-1, logits.shape[-1])[rows]}
