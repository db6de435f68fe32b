"""Who is measured: a table, and how each of the peers is loaded and run. Ours are in `ours`, floors in `floor`.

A contender has `measures`, by name, each a callable that returns seconds; `first`, which takes its first step, and
`generation`, after which the process has had all the memory that an answer needs. Nothing heavy is imported before
the contender is loaded, since that is measured too.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from contest.reference import MASK, NumpySampler, Settings, TorchSampler, generate

PASS, ROWS = 256, 32
SHORT_PASS, FEW = 128, 2
"""Positions, and rows to predict, of a cached pass that is typical of the preset fast."""
PROMPT, NEW, BLOCK, STEPS = 64, 64, 32, 64
SAMPLED = ((0, 28), (0, 20), (1, 13), (1, 5))
"""Block and masks left in it, of the steps from which a peer's answer is put together: 16.5 masks on average, as the
answer has, and what a step costs is linear in them."""
ORDINARY = 260
"""Control tokens and bytes have ids below this one."""


@dataclass(frozen=True)
class Contender:
    """A row of the table: its name, what it is called in print, and whom it is measured beside."""

    name: str
    label: str
    group: str

    @property
    def accompanies(self) -> bool:
        """Whether it is measured in every round of every other group."""
        return self.group in ("floor", "ours")


CONTENDERS = (
    Contender("torch-fp32", "transformers + torch, float32", "torch"),
    Contender("torch-bf16", "transformers + torch, bfloat16", "torch"),
    Contender("optimum-fp32", "optimum, float32", "optimum"),
    Contender("optimum-int8", "optimum, dynamic int8", "optimum"),
    Contender("openvino-fp32", "OpenVINO, float32", "openvino"),
    Contender("openvino-bf16", "OpenVINO, bfloat16", "openvino"),
    Contender("ours-fp32", "diffutron-ort, float32", "ours"),
    Contender("ours-int8", "diffutron-ort, int8", "ours"),
    Contender("floor-fp32", "the floor, float32", "floor"),
    Contender("floor-int8", "the floor, int8", "floor"),
)


class Runner(Protocol):
    """A contender that is loaded."""

    measures: dict[str, Callable[[], float]]

    def first(self) -> None:
        """Take the first step of an answer."""

    def generation(self) -> None:
        """Do what an answer does to the memory."""


def load(name: str, work: Path) -> Runner:
    """Import what a contender needs, and load it from what was prepared in `work`."""
    framework, precision = name.split("-")
    if framework == "ours":
        from contest.ours import Ours

        return Ours(work, precision)
    if framework == "floor":
        from contest.floor import Floor

        return Floor(precision)
    return Peer({"torch": _torch, "optimum": _optimum, "openvino": _openvino}[framework](work, precision))


def prompt(length: int, vocab: int) -> Any:
    """Return ordinary tokens, int64 [length], the same in every process."""
    return np.random.default_rng(0).integers(ORDINARY, vocab, length)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_of(count: int, call: Callable[[], object]) -> float:
    """Return the median of `count` timings, after one call that warms up."""
    call()
    return float(np.median([timed(call) for _ in range(count)]))


@dataclass(frozen=True)
class Loaded:
    """A framework's model.

    Attributes:
        vocab: Number of pieces.
        forward: int64 [length] -> [length, vocab].
        sampler: In the language that goes with it.
        tensor: Makes a canvas of that language out of an array.
    """

    vocab: int
    forward: Callable[[Any], Any]
    sampler: type[NumpySampler] | type[TorchSampler] = NumpySampler
    tensor: Callable[[Any], Any] = np.asarray


class Peer:
    """Another runtime with the plain loop.

    An answer is composed: a few of its steps are timed, and their mean is multiplied. The measures that begin with
    `whole` time an answer from end to end, so that the composition can be checked.
    """

    def __init__(self, model: Loaded) -> None:
        self.model = model
        self.measures: dict[str, Callable[[], float]] = {"pass": self._pass}
        for kind, cut in (("written", False), ("cut", True)):
            step = model.sampler(model.forward, Settings(cut=cut))
            self.measures[f"answer {kind}"] = partial(self._composed, step)
            self.measures[f"whole {kind}"] = partial(self._whole, step)

    def first(self) -> None:
        """Take the first step of an answer, as people write it."""
        step = self.model.sampler(self.model.forward, Settings())
        step(self._canvas(0, BLOCK), PROMPT + BLOCK, 1)

    def generation(self) -> None:
        """Take the steps that an answer is composed of; every step needs the same memory."""
        self.measures["answer written"]()

    def _canvas(self, block: int, masks: int) -> Any:
        """Return a canvas on which `masks` are left in a block, and none before it."""
        ids = prompt(PROMPT + NEW, self.model.vocab)
        ids[PROMPT + (block + 1) * BLOCK - masks :] = MASK
        return self.model.tensor(ids)

    def _pass(self) -> float:
        ids = self.model.tensor(prompt(PASS, self.model.vocab))
        return median_of(3, lambda: self.model.forward(ids))

    def _composed(self, step: Callable[[Any, int, int], None]) -> float:
        seconds = []
        for block, masks in (SAMPLED[0], *SAMPLED):
            canvas = self._canvas(block, masks)
            seconds.append(timed(partial(step, canvas, PROMPT + (block + 1) * BLOCK, 1)))
        return float(np.mean(seconds[1:])) * STEPS  # the first warms up

    def _whole(self, step: Callable[[Any, int, int], None]) -> float:
        canvas = self._canvas(0, BLOCK)
        return timed(lambda: generate(step, canvas, PROMPT, BLOCK, lambda masks: [1] * masks))


def _torch(work: Path, precision: str) -> Loaded:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    AutoTokenizer.from_pretrained(work / "checkpoint")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModelForMaskedLM.from_pretrained(work / "checkpoint", dtype=dtype).eval()

    @torch.no_grad()
    def forward(ids: Any) -> Any:
        return model(input_ids=ids[None]).logits[0]

    return Loaded(model.config.vocab_size, forward, TorchSampler, torch.from_numpy)


def _optimum(work: Path, precision: str) -> Loaded:
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(work / "checkpoint")
    folder = work / {"fp32": "optimum", "int8": "optimum_int8"}[precision]
    file = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}[precision]
    model = ORTModelForMaskedLM.from_pretrained(folder, file_name=file)

    def forward(ids: Any) -> Any:
        return model(input_ids=ids[None], attention_mask=np.ones_like(ids[None])).logits[0]

    return Loaded(model.config.vocab_size, forward)


def _openvino(work: Path, precision: str) -> Loaded:
    import openvino
    from tokenizers import Tokenizer

    Tokenizer.from_file(str(work / "checkpoint" / "tokenizer.json"))
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    model = openvino.Core().compile_model(str(work / "openvino" / "model.xml"), "CPU", hints)

    def forward(ids: Any) -> Any:
        return model({"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])})[0][0]

    vocab = json.loads((work / "checkpoint" / "config.json").read_text("utf-8"))["vocab_size"]
    return Loaded(vocab, forward)


def chosen(names: Sequence[str]) -> list[Contender]:
    """Return the contenders that are called `names`, or all where none is named."""
    unknown = sorted(set(names) - {contender.name for contender in CONTENDERS})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: contenders are {', '.join(c.name for c in CONTENDERS)}")
    return [contender for contender in CONTENDERS if not names or contender.name in names]
