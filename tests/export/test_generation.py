"""The parts of generation's graph against what they are taken from, and the graph as a file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxscript import DOUBLE, INT64

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import GENERATION_INPUTS
from diffutron_ort.runtime.generation import stack
from diffutron_ort.runtime.graph_guard import GENERATION
from diffutron_ort.runtime.session import scatter_to_vocab
from diffutron_ort.sampler import random, sampling
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.sampler.random import UNIFORM_VECTORS
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort.text.stopping import Ends
from diffutron_ort.types import SpecialIds
from diffutron_ort_export.check.session import GraphForward, GraphSession
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS
from diffutron_ort_export.graph import vocabulary
from diffutron_ort_export.graph.denoiser import write_denoiser
from diffutron_ort_export.graph.generation import end, plan, uniform
from diffutron_ort_export.graph.precision import Precision
from diffutron_ort_export.graph.splice import splice
from tests.export.conftest import TINY
from tests.export.networks import all_in, written
from tests.export.rewriting import graph_of
from tests.fakes import Ending


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


# The whole graph against the loop in Python, with the same denoiser

OPTIONS = [value for value in GENERATION_INPUTS if not value.axes]
SPECIAL = SpecialIds(**SPECIAL_IDS)
SHAPE = open_source(str(TINY / "checkpoint")).shape
KEPT = [SPECIAL.mask, *range(5, 90), *range(100, 250, 3)]
VARIANTS = {
    "fp32": (Precision.FLOAT32, None),
    "int8": (Precision.INT8_PER_TENSOR, None),
    "int8-batch, an output vocabulary": (Precision.INT8, KEPT),
}


class Both:
    """The tiny checkpoint's denoiser under the loop in Python, and the graph of the whole."""

    def __init__(self, folder: Path, precision: Precision, kept: Sequence[int] | None) -> None:
        source = replace(open_source(str(TINY / "checkpoint")), output_vocabulary=kept and tuple(kept))
        write_denoiser(source, folder / "denoiser.onnx", all_in(precision, SHAPE), {"source": "tiny"})
        splice(folder / "denoiser.onnx", folder / "generate.onnx")
        self.folder, self.kept, self.passes = folder, kept, 0
        self.denoiser = GraphForward(GraphSession(folder / "denoiser.onnx", SHAPE))
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.graph = onnxruntime.InferenceSession(folder / "generate.onnx", options, providers=["CPUExecutionProvider"])

    batch_invariant = False

    def __call__(self, given: Any) -> Any:
        self.passes += 1
        return scatter_to_vocab(self.denoiser(given), self.kept, SHAPE.vocab_size)

    def generated(self, prompt: Sequence[int], config: GenerationConfig, stops: Sequence[Sequence[int]]) -> list[Any]:
        """Return the graph's ids, the length of its answer, and the number of its steps."""
        feeds: dict[str, Any] = {
            option.name: np.array(getattr(config, option.name), option.dtype)
            for option in OPTIONS
            if option.name != "seed"
        }
        feeds["seed"] = np.array(config.seed, np.uint64).view(np.int64)
        return self.graph.run(
            ["ids", "answer_length", "steps_taken"],
            feeds | {"prompt_ids": np.array([prompt], np.int64), "stop_ids": stack(stops)},
        )

    def check(self, prompt: Sequence[int], config: GenerationConfig, stops: Sequence[Sequence[int]] = ()) -> int:
        """Compare the two, and return the length of the answer."""
        ends = Ends(SPECIAL, stops)
        canvas = for_generation(prompt, config.max_new_tokens, SPECIAL.mask, config.seed)
        *_, (_, last) = denoise(self, [canvas], config, SPECIAL, Ending(ends))
        [ids], length, steps = self.generated(prompt, config, stops)
        found = ends.find(last.ids[canvas.start :])
        assert length == (found.begin if found else config.max_new_tokens)
        np.testing.assert_array_equal(ids[: canvas.start + length], last.ids[: canvas.start + length])
        assert (ids[canvas.start + length :] == SPECIAL.pad).all()
        assert steps == last.index + 1
        return int(length)


@pytest.fixture(scope="module", params=VARIANTS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "PART", 128)
        yield Both(tmp_path_factory.mktemp("both"), *VARIANTS[request.param])


@pytest.mark.parametrize("prompt", [[], [7, 4, 1, 2, 300]])
@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (0.1, 1), (1.0, 2**64 - 1)])
def test_the_graph_generates_what_the_loop_does(both: Both, prompt: list[int], temperature: float, seed: int) -> None:
    options = {"max_new_tokens": 24, "steps": 9, "block_length": 9, "repetition_penalty": 1.3}
    both.check(prompt, GenerationConfig(temperature=temperature, seed=seed, **options))


def test_draws_beyond_the_candidates(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a temperature of 3 many draws are, and go by the ids of the whole vocabulary."""
    beyond, original = [], sampling.draw_beyond
    monkeypatch.setattr(sampling, "draw_beyond", lambda *given: beyond.append(1) or original(*given))
    for penalty in (1.0, 2.0):
        both.check(
            [7], GenerationConfig(max_new_tokens=16, steps=8, temperature=3.0, repetition_penalty=penalty, seed=5)
        )
    assert len(beyond) > 8


def test_the_answer_ends_at_a_stop_sequence(both: Both) -> None:
    config = GenerationConfig(max_new_tokens=20, steps=20, block_length=5, temperature=0.0)
    [ids], length, steps = both.generated([300, 301], config, [])
    answer = ids[2 : 2 + length].tolist()
    assert length > 4
    for stop in ([answer[3:5]], [answer[3:5], [511, 511, 511]], [[510], answer[:1]]):
        shorter = both.check([300, 301], config, stop)
        assert shorter <= answer.index(stop[0][0]) if len(stop[0]) == 2 else shorter == 0
        assert both.generated([300, 301], config, stop)[2] < steps


# The file


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of bodies and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def test_the_file_is_of_standard_operators_and_reads_the_denoisers_weights(both: Both) -> None:
    path = both.folder / "generate.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    kinds = {node.op_type for node in nodes(model.graph)}
    assert {node.domain for node in nodes(model.graph)} == {""}
    assert {kind.encode() for kind in kinds} <= GENERATION.operators
    assert not model.functions
    assert not any(kind.startswith("Random") or kind in ("Bernoulli", "Multinomial") for kind in kinds)
    locations = {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert locations == {"denoiser.onnx.data"}
    assert {entry.key: entry.value for entry in model.metadata_props} == {"source": "tiny"}
    assert path.stat().st_size < 400_000


def test_the_denoiser_is_in_it_once(both: Both) -> None:
    inside, alone = (
        Counter(node.op_type for node in nodes(graph_of(both.folder / name)))
        for name in ("generate.onnx", "denoiser.onnx")
    )
    for kind in ("Attention", "RotaryEmbedding", "LayerNormalization", "MatMul", "MatMulInteger"):
        assert inside[kind] == alone[kind]


def test_onnx_runtime_finds_nothing_to_warn_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    splice(written(tmp_path), tmp_path / "generate.onnx")
    onnxruntime.InferenceSession(tmp_path / "generate.onnx", providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")
