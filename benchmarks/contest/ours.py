"""Our own contenders: whole answers through the runtime's loop, and single passes through its session."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contest.contenders import BLOCK, FEW, NEW, PASS, PROMPT, ROWS, SHORT_PASS, median_of, prompt, timed
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
            self.measures["pass cached"] = partial(self._cached_pass, PASS, ROWS)
            self.measures["pass few"] = partial(self._cached_pass, SHORT_PASS, FEW)
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
        return (step for _, step in denoise(self.model.forward, [canvas], self.config.replace(**options), special))

    def _answer(self, options: dict[str, Any]) -> float:
        """Return the seconds of a whole answer, of every one of its steps: nothing ends it early."""
        return timed(lambda: [None for _ in self._steps(options)])

    def _pass(self) -> float:
        batch = self._batch(np.arange(PASS), PASS, ROWS)
        return median_of(3, lambda: self.model.forward(batch))

    def _cached_pass(self, length: int, asked: int) -> float:
        """Time a pass that computes the last block of a canvas against the kept keys and values of the others."""
        full = self.model.forward(self._batch(np.arange(length), length, ROWS, return_kv=True))
        batch = self._batch(np.arange(length - BLOCK, length), length, asked, caches=full.kv_caches)
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
        length, caches = PROMPT + NEW, None
        for made in trace:
            if made.full:
                full = self._batch(np.arange(length), length, made.asked, return_kv=True)
                caches = self.model.forward(full).kv_caches
            else:
                computed = np.arange(PROMPT, PROMPT + made.computed)
                self.model.forward(self._batch(computed, length, made.asked, caches=caches))

    def _batch(self, computed: Any, length: int, asked: int, *, caches: Any = None, return_kv: bool = False) -> Any:
        """Return a pass over the places `computed` [seq] of a canvas, which asks for the last `asked` of them."""
        from diffutron_ort.runtime.contract import PassInput, Past

        ids = prompt(length, self.model.bundle.vocab_size)
        ids[length - NEW :] = self.model.bundle.special.mask
        seen = np.unique(ids[: length - NEW])[None]
        one, places = np.ones(1, np.float32), np.arange(length)
        places[computed] = -1
        return PassInput(
            input_ids=ids[computed][None],
            position_ids=computed[None],
            rows=np.arange(len(computed) - asked, len(computed)),
            seen_ids=seen,
            suppress_ids=np.zeros((1, 0), np.int64),
            repetition_penalty=one * self.config.repetition_penalty,
            temperature=one * self.config.temperature,
            target_ids=np.zeros((asked, 0), np.int64),
            past=None if caches is None else Past(places[None], caches),
            return_kv=return_kv,
        )
