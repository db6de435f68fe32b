"""Our own contenders: whole answers through the runtime's loop, and single passes through its session."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contest.contenders import BLOCK, NEW, PASS, PROMPT, ROWS, median_of, prompt, timed
from contest.trace import TRACES, Pass
from diffutron_ort import Diffutron
from diffutron_ort.config import preset
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise

if TYPE_CHECKING:
    from collections.abc import Callable

EXACT: dict[str, Any] = {}
CACHED = {"cache": "block"}


class Ours:
    """A variant of our bundle."""

    def __init__(self, work: Path, variant: str) -> None:
        self.model = Diffutron.from_pretrained(work / "ours", variant=variant)
        self.config = preset("short")
        self.traces = work / TRACES
        self.measures: dict[str, Callable[[], float]] = {
            "pass": self._pass,
            "answer exact": partial(self._answer, EXACT),
        }
        if variant != "fp32":  # which is here to show what exactness costs, and takes its time
            self.measures["pass cached"] = self._cached_pass
            self.measures["answer cached"] = partial(self._answer, CACHED)
            self.measures["answer fast"] = self._replayed

    def first(self) -> None:
        """Take the first step of an exact answer."""
        next(self._steps(EXACT))

    def generation(self) -> None:
        """Generate answers, of all the kinds that are measured but the replayed one."""
        for name in ("answer exact", "answer cached"):
            if name in self.measures:
                self.measures[name]()

    def _steps(self, options: dict[str, Any]) -> Any:
        special = self.model.bundle.special
        canvas = for_generation(prompt(PROMPT, self.model.bundle.vocab_size).tolist(), NEW, special.mask)
        return denoise(self.model.forward, [canvas], self.config.replace(**options), special)

    def _answer(self, options: dict[str, Any]) -> float:
        """Return the seconds of a whole answer, of every one of its steps: nothing ends it early."""
        return timed(lambda: [None for _ in self._steps(options)])

    def _pass(self) -> float:
        batch = self._batch(np.arange(PASS), PASS, ROWS)
        return median_of(3, lambda: self.model.forward(batch))

    def _cached_pass(self) -> float:
        """Time a pass that computes the last tokens against the kept keys and values of the others."""
        full = self.model.forward(self._batch(np.arange(PASS), PASS, ROWS, keep=True))
        batch = self._batch(np.arange(PASS - BLOCK, PASS), PASS, ROWS, kept=full.kept)
        return median_of(3, lambda: self.model.forward(batch))

    def _replayed(self) -> float:
        """Return the mean seconds of the answers in the traces, each pass run at full size in its turn."""
        traces = [[Pass(*made) for made in trace] for trace in json.loads(self.traces.read_text("utf-8"))["traces"]]
        self._replay(traces[0])  # warms up
        return timed(lambda: [self._replay(trace) for trace in traces]) / len(traces)

    def _replay(self, trace: list[Pass]) -> None:
        """Run passes of the same kind, with as many tokens and rows: a full one over the whole canvas of the setting.

        The tokens of a cached one are put right after the prompt. Every full pass keeps what it computed.
        """
        length, kept = PROMPT + NEW, None
        for made in trace:
            if made.full:
                kept = self.model.forward(self._batch(np.arange(length), length, made.asked, keep=True)).kept
            else:
                computed = np.arange(PROMPT, PROMPT + made.computed)
                self.model.forward(self._batch(computed, length, made.asked, kept=kept))

    def _batch(self, computed: Any, length: int, asked: int, *, kept: object = None, keep: bool = False) -> Any:
        """Return a pass over the places `computed` [seq] of a canvas, which asks for the last `asked` of them."""
        from diffutron_ort.runtime.contract import Batch, Past

        ids = prompt(length, self.model.bundle.vocab_size)
        ids[length - NEW :] = self.model.bundle.special.mask
        seen = np.unique(ids[: length - NEW])[None]
        one = np.ones(1, np.float32)
        penalty, temperature = one * self.config.repetition_penalty, one * self.config.temperature
        places = np.arange(length)
        places[computed] = -1
        past = None if kept is None else Past(places[None], kept)
        rows = np.arange(len(computed) - asked, len(computed))
        return Batch(ids[computed][None], computed[None], rows, seen, penalty, temperature, past, keep)
