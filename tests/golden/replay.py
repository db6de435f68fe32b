"""Replays recorded behaviour of the reference; each file of a folder is a list of named cases."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward, PassInput
from diffutron_ort.sampler.canvas import for_generation, for_infilling
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.sampler.sampling import confidence, odds_against, penalise, reduce_logits
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.types import SpecialIds
from tests.golden.hash_model import HashModel
from tests.passes import pass_input

LOGIT_TOLERANCE = 1e-4
CONFIDENCE_TOLERANCE = 1e-6


class Case(NamedTuple):
    """A check and its name; it raises AssertionError where the behaviour differs from the recorded one."""

    name: str
    check: Callable[[], None]


class Checkpoint:
    """A checkpoint of the folder, exported when it is first asked for; with an adapter, the two together."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self.folder, self.adapter = folder, adapter
        self._session: Any = None
        self.batch_invariant = True

    def __call__(self, batch: PassInput) -> Any:
        return self.session(batch)

    @property
    def session(self) -> Any:
        """The exported graph, ready to run."""
        if self._session is None:
            from diffutron_ort.bundle.load import load_bundle
            from diffutron_ort.runtime.session import Session
            from diffutron_ort_export import export

            with tempfile.TemporaryDirectory() as scratch:
                export(str(self.folder), Path(scratch) / "bundle", adapter=self.adapter)
                self._session = Session(load_bundle(Path(scratch) / "bundle"))
        return self._session


def cases(folder: Path) -> Iterator[Case]:
    """Yield the cases of every file that is in `folder`."""
    tiny = Checkpoint(folder / "tiny" / "checkpoint")
    adapted = Checkpoint(folder / "tiny" / "checkpoint", folder / "tiny" / "adapter")
    readers: dict[str, Callable[[str, Any], Iterator[Case]]] = {
        "schedule.json": _schedule,
        "rows.json": _rows,
        "sampler_single.json": _hash_traces,
        "sampler_batch.json": _hash_traces,
        "tiny/traces_single.json": partial(_traces, forward=tiny),
        "tiny/traces_batch.json": partial(_traces, forward=tiny),
        "tiny/logits.npz": partial(_logits, checkpoint=tiny),
        "tiny/adapter_logits.npz": partial(_logits, checkpoint=adapted),
    }
    for name, read in readers.items():
        path = folder / name
        if path.exists():
            yield from read(name, np.load(path) if path.suffix == ".npz" else json.loads(path.read_text("utf-8")))


def _schedule(name: str, recorded: dict[str, dict[str, list[int]]]) -> Iterator[Case]:
    for schedule, table in recorded.items():
        for key, counts in table.items():
            masks, steps = map(int, key.split(","))
            yield Case(f"{name}:{schedule}:{key}", partial(_check_schedule, masks, steps, schedule, counts))


def _check_schedule(masks: int, steps: int, schedule: str, counts: list[int]) -> None:
    np.testing.assert_array_equal(commit_counts(masks, steps, schedule), counts)


def _rows(name: str, recorded: list[dict[str, Any]]) -> Iterator[Case]:
    for index, case in enumerate(recorded):
        yield Case(f"{name}:{index}", partial(_check_rows, case))


def _check_rows(case: dict[str, Any]) -> None:
    """Match the penalty, the confidence of the given tokens, and the tokens too, by the reference's own noise."""
    seen = np.setdiff1d(case["canvas"], (case["mask_id"], case["eos_id"]))
    penalised = penalise(np.array(case["logits"], np.float32), seen, case["repetition_penalty"])
    np.testing.assert_array_equal(penalised, np.array(case["penalised"], np.float32))
    tokens, temperature = np.array(case["token"]), case["temperature"]
    noise = -np.log(-np.log(np.array(case["uniform"]))) if temperature else 0.0
    np.testing.assert_array_equal((penalised.astype(np.float64) + temperature * noise).argmax(axis=1), tokens)
    reduced = reduce_logits(penalised, temperature or 1.0)
    if not temperature:
        np.testing.assert_array_equal(reduced.top_ids[:, 0], tokens)
    chosen = np.take_along_axis(penalised, tokens[:, None], axis=1)[:, 0]
    odds = odds_against(chosen, reduced.top_logits[:, 0], reduced.rest)
    np.testing.assert_allclose(confidence(odds), case["confidence"], atol=CONFIDENCE_TOLERANCE)


def _hash_traces(name: str, recorded: list[dict[str, Any]]) -> Iterator[Case]:
    for case in recorded:
        model = HashModel(case["vocab_size"], case["salt"])
        yield Case(f"{name}:{case['id']}", partial(check_trace, case, model))


def _traces(name: str, recorded: list[dict[str, Any]], forward: Forward) -> Iterator[Case]:
    for case in recorded:
        yield Case(f"{name}:{case['id']}", partial(check_trace, case, forward))


def check_trace(case: dict[str, Any], forward: Forward) -> None:
    """Assert that every canvas from the first to the last is the recorded one."""
    ids = {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4} | case.get("special", {})
    actual = list(replay(case, forward, SpecialIds(**ids)))
    assert len(actual) == len(case["canvases"]), f"{len(actual)} canvases, recorded were {len(case['canvases'])}"
    for step, (mine, reference) in enumerate(zip(actual, case["canvases"], strict=True)):
        np.testing.assert_array_equal(mine, reference, f"canvas {step}")


def replay(case: dict[str, Any], forward: Forward, special: SpecialIds) -> Iterator[np.ndarray]:
    """Yield the canvases of a trace, rows padded on the right with eos as the reference does."""
    options = {"repetition_penalty": 1.0, "schedule": case.get("schedule", "linear")}
    options |= {name: value for name, value in case["options"].items() if value is not None}
    infill = case.get("kind", "generate") == "infill"
    longest = max(map(len, case["prompts"]))
    options["block_length"] = options.get("block_length") or longest
    config = GenerationConfig(**options, stop=(), early_end=False)
    if infill:
        canvases = [for_infilling(prompt) for prompt in case["prompts"]]
    else:
        canvases = [for_generation(prompt, config.max_new_tokens, special.mask) for prompt in case["prompts"]]
    current = np.full((len(canvases), max(canvas.length for canvas in canvases)), special.eos)
    for row, canvas in enumerate(canvases):
        current[row, : canvas.length] = canvas.ids
    yield current.copy()
    for steps in passes(denoise(forward, canvases, config, special)):
        for row, step in steps:
            current[row, : len(step.ids)] = step.ids
        yield current.copy()


def passes(steps: Iterator[tuple[int, Step]]) -> Iterator[Sequence[tuple[int, Step]]]:
    """Group the steps of several rows as the reference takes them: the same step of the same block together."""
    groups: dict[tuple[int, int], list[tuple[int, Step]]] = {}
    first: dict[tuple[int, int], int] = {}
    for row, step in steps:
        number = step.index - first.setdefault((row, step.block), step.index)
        groups.setdefault((step.block, number), []).append((row, step))
    for key in sorted(groups):
        yield groups[key]


def _logits(name: str, recorded: Any, checkpoint: Checkpoint) -> Iterator[Case]:
    for key in recorded.files:
        if key.startswith("ids"):
            ids, logits = recorded[key][None], recorded[key.replace("ids", "logits")][None]
            yield Case(f"{name}:{key}", partial(_check_logits, checkpoint, ids, np.ones_like(ids), logits))
    if "batch_ids" in recorded.files:
        arrays = (recorded[f"batch_{part}"] for part in ("ids", "mask", "logits"))
        yield Case(f"{name}:batch", partial(_check_logits, checkpoint, *arrays))


def _check_logits(checkpoint: Checkpoint, ids: np.ndarray, mask: np.ndarray, logits: np.ndarray) -> None:
    ids = ids.reshape(-1, ids.shape[-1]).astype(np.int64)
    position_ids = np.where(mask.reshape(ids.shape) > 0, np.arange(ids.shape[1]), -1)
    rows = np.flatnonzero(position_ids >= 0)
    actual = checkpoint(pass_input(ids, position_ids, rows, want_logits=True)).logits
    expected = logits.reshape(-1, logits.shape[-1])[rows]
    np.testing.assert_allclose(actual, expected, atol=LOGIT_TOLERANCE, rtol=0)
