"""How long a pass takes here, against benchmarks/RESULTS.md."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from diffutron_ort.checks.bench import full_pass, pass_pair, session_of
from diffutron_ort.doctor.figures import FIGURES, MACHINE, Shape
from diffutron_ort.doctor.findings import NOTE, OK, WARNING, Finding, Unexaminable
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.errors import DiffutronError
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.cpu import is_busy

TOPIC = "speed"
LENGTH = 256  # positions of the canvas, or the context if that is shorter
SECONDS, LEAST, MOST = 3.0, 3, 30  # how long to measure, and how many rounds
SLOW = 3.0  # times the figure, from which on it is worth a warning


class Times(NamedTuple):
    """Milliseconds of several passes of one kind: the median, and the quarters below and above which others lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Return the quartiles of what several passes took."""
        low, median, high = np.percentile(seconds, [25, 50, 75]) * 1000
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        """Return the median and the spread, for people."""
        return f"{_short(self.median)} ms ({_short(self.low)} to {_short(self.high)})"


def check(subject: Subject) -> Iterator[Finding]:
    """Time full and cached passes, and compare them with the figures for a model of the same shape."""
    try:
        model = subject.loaded
    except DiffutronError as error:
        raise Unexaminable("the model cannot be loaded") from error
    full, cached = measure(model)
    bundle, session = model.bundle, session_of(model)
    length = min(LENGTH, bundle.context_length)
    facts = {"length": length, "full_ms": full._asdict(), "cached_ms": cached._asdict(), "session": repr(session)}
    yield Finding(TOPIC, OK, f"{session!r}, {length} positions: full pass {full}, cached {cached}", facts=facts)
    yield _compared(Shape(bundle.layers, bundle.hidden_size, bundle.columns), subject.running, full)


def measure(model: Diffutron, seconds: float = SECONDS, most: int = MOST) -> tuple[Times, Times]:
    """Return how long full and cached passes take, which take turns after a warm-up.

    The length is LENGTH or the context, and 32 rows are predicted, as in RESULTS.md.

    Args:
        model: A loaded model.
        seconds: How long to measure, if `most` rounds take longer.
        most: How many rounds to make at most.
    """
    session = session_of(model)
    full, cached = pass_pair(session, full_pass(model, min(LENGTH, model.bundle.context_length)))
    calls: list[Callable[[], object]] = [lambda: session(full), lambda: session(cached)]
    for call in calls:
        call()
    taken: list[list[float]] = []
    begun = time.perf_counter()
    while len(taken) < LEAST or (len(taken) < most and time.perf_counter() - begun < seconds):
        taken.append([_seconds(call) for call in calls])
    of_full, of_cached = zip(*taken, strict=True)
    return Times.of(of_full), Times.of(of_cached)


def _short(figure: float) -> str:
    """Return a figure with about three digits."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _compared(shape: Shape, variant: str, full: Times) -> Finding:
    """Return the finding on what a full pass takes."""
    figure = FIGURES.get((shape, variant))
    if figure is None:
        return Finding(TOPIC, NOTE, f"there is no figure for {variant} of this shape to compare with")
    ratio = full.median / figure.full
    text = f"{ratio:.2g} times the {_short(figure.full)} ms of RESULTS.md ({MACHINE})"
    facts = {"ratio": ratio, "figure_ms": figure.full}
    if full.low <= SLOW * figure.full:  # a busy machine slows some passes, a slow one all
        return Finding(TOPIC, OK, f"a full pass takes {text}", facts=facts)
    if is_busy():
        remedy = "run the doctor again when the machine is idle"
        return Finding(TOPIC, NOTE, f"all processors are busy, and a full pass takes {text}", remedy, facts)
    return Finding(TOPIC, WARNING, f"a full pass is slow: {text}", "see the processor and the threads above", facts)
