"""The parts of generation's graph against what they are taken from, and the graph as a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxscript import DOUBLE, INT64

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.runtime.generation import Generation, stack
from diffutron_ort.sampler import random
from diffutron_ort.sampler.random import UNIFORM_VECTORS
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort_export import export
from diffutron_ort_export.graph.generation import end, plan, uniform
from tests.conftest import GOLDEN
from tests.runtime.test_generation import check


def session(function: Any, ranks: list[int], outputs: list[Any]) -> onnxruntime.InferenceSession:
    """One of the functions as a graph of its own, of int64 inputs with so many axes."""
    types = [INT64[(None,) * rank] if rank else INT64 for rank in ranks]
    model = function.to_model_proto(input_types=types, output_types=outputs, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def call(running: onnxruntime.InferenceSession, *arguments: Any) -> list[np.ndarray]:
    names = [value.name for value in running.get_inputs()]
    return running.run(None, {name: np.array(a, np.int64) for name, a in zip(names, arguments, strict=True)})


def test_the_plan_is_the_schedules() -> None:
    running = session(plan, [0, 0, 0], [INT64[None]] * 3)
    rng = np.random.default_rng(0)
    for new, steps, length in [(64, 64, 32), (1, 1, 1), (40, 7, 16), *rng.integers(1, 300, (300, 3)).tolist()]:
        blocks = -(-new // length)
        expected = []
        for block in range(blocks):
            counts = commit_counts(min(length, new - block * length), -(-steps // blocks))
            expected += [(block, step, count) for step, count in enumerate(counts)]
        assert list(zip(*(x.tolist() for x in call(running, new, steps, length)), strict=True)) == expected


def test_the_uniforms_are_the_hashs() -> None:
    running = session(uniform, [0, 0, 0, 1], [DOUBLE[None]])
    places = [place for place, _ in UNIFORM_VECTORS] + [(2**64 - 1, 0, 7, 31, 255), (2**63, 0, 2**20, 3, 10**6)]
    for seed, stream, block, step, position in places:
        if stream == 0:
            [found] = call(running, np.uint64(seed).view(np.int64), block, step, [position, 5])
            assert (found == random.uniform(seed, 0, block, step, np.array([position, 5]))).all()


@pytest.mark.parametrize(
    ("stops", "begins", "complete"),
    [
        ([[7, 8]], 2, 4),
        ([[8, 1], [6, 7, 8]], 1, 4),  # the one that is complete first, though both are there
        ([[6, 7, 8], [7, 8]], 1, 4),  # of two that are complete together, the longer
        ([[5, 6, 7, 8, 1, 7, 9], [7, 7]], 6, None),  # longer than what there is, and nowhere
        ([[7], [], [9]], 2, 3),  # an empty one is none
        ([[5]], 0, 1),
    ],
)
def test_the_sequence_that_is_complete_first_is_the_end(
    stops: list[list[int]], begins: int, complete: int | None
) -> None:
    begun, completed = call(session(end, [1, 2], [INT64, INT64]), [5, 6, 7, 8, 1, 7], stack(stops))
    assert begun == begins
    assert completed == complete if complete else completed > 6


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of bodies and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_file_is_of_standard_operators_and_reads_the_variants_weights(variant: str) -> None:
    bundle = load_bundle()
    path = bundle.folder / bundle.variants[variant].generate
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    kinds = {node.op_type for node in nodes(model.graph)}
    assert {node.domain for node in nodes(model.graph)} == {""}
    assert not model.functions
    assert not any(kind.startswith("Random") or kind in ("Bernoulli", "Multinomial") for kind in kinds)
    locations = {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert locations == {Path(bundle.variants[variant].weights).name}
    assert {"source", "onnxscript"} <= {entry.key for entry in model.metadata_props}


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_any_checkpoint_and_output_vocabulary(tmp_path: Path, variant: str) -> None:
    """At a temperature of 3 most draws are beyond the candidates, and go by the ids of the whole vocabulary."""
    (tmp_path / "pieces.json").write_text(json.dumps([*range(5, 90), *range(100, 250, 3)]))
    export(
        GOLDEN / "tiny" / "checkpoint",
        tmp_path / "b",
        variants=[variant],
        output_vocabulary=tmp_path / "pieces.json",
        accept=True,
    )
    model = Diffutron.from_pretrained(tmp_path / "b", variant=variant)
    generation = Generation(model.bundle, variant)
    for temperature in (0.0, 1.0, 3.0):
        for seed in range(5):
            options = {"max_new_tokens": 24, "steps": 12, "block_length": 9, "repetition_penalty": 1.3}
            check(model, generation, [7, 95, 99, 4], model.config(temperature=temperature, seed=seed, **options))
