"""What the samples say: medians, ratios against each peer, and the figures that the project is judged by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from contest.rounds import Sample, labels

PEERS = ("torch-fp32", "torch-bf16", "optimum-fp32", "optimum-int8", "openvino-fp32", "openvino-bf16")
KINDS = {"written": "as people write it", "cut": "sampler cut to the block's rows"}
OURS = {
    ("ours-fp32", "answer exact"): "float32, exact",
    ("ours-int8", "answer exact"): "int8, exact",
    ("ours-int8", "answer cached"): "int8, cached",
    ("ours-int8", "answer fast"): "int8, fast",
}
PASSES = {"answer exact": "pass", "answer cached": "pass cached", "answer fast": "pass few"}
"""The kind of pass of which an answer is mostly made."""
FLOORS = ("floor-int8", "floor-fp32")
FLOOR_FIGURES = (
    ("a pass, ms", "pass", 1e3),
    ("a cached pass, ms", "pass cached", 1e3),
    ("a cached pass of 2 rows, ms", "pass few", 1e3),
    ("a product of the body, 256 rows, GOP/s", "rate body", 1e-9),
    ("a product of the head, 32 rows, GOP/s", "rate head", 1e-9),
    ("copying, GB/s", "copy", 1e-9),
)
"""What is said of a floor: in words, by the measure's name, and in which unit."""


@dataclass(frozen=True)
class Judged:
    """A figure with its target: `better` says on which side of it the measured one is to be."""

    figure: str
    target: float | None
    measured: float | None
    unit: str
    better: str = "more"

    @property
    def met(self) -> str:
        """Say whether the target is met, or that there is none, or nothing to compare."""
        if self.measured is None:
            return "not measured"
        if self.target is None:
            return "reported"
        gain = self.measured - self.target if self.better == "more" else self.target - self.measured
        return "yes" if gain >= 0 else "no"

    def row(self) -> list[str]:
        """Return the cells of the table: figure, target, measured, met."""
        sign = "≥" if self.better == "more" else "≤"
        target = "–" if self.target is None else f"{sign} {self.target:g}{self.unit}"
        measured = "–" if self.measured is None else f"{number(self.measured)}{self.unit}"
        return [self.figure, target, measured, self.met]


class Figures:
    """Medians of samples."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def median(self, contender: str, measure: str, group: str | None = None) -> float | None:
        """Return the median of a measure, in one group or in all; None where there is no sample."""
        values = [
            sample.value
            for sample in self.samples
            if (sample.contender, sample.measure) == (contender, measure) and group in (None, sample.group)
        ]
        return median(values) if values else None

    def ratio(self, peer: str, peer_measure: str, contender: str, measure: str) -> float | None:
        """Return how many times a contender is faster than a peer, both measured in the peer's group."""
        slow = self.median(peer, peer_measure)
        fast = self.median(contender, measure, group_of(peer, peer_measure))
        return None if slow is None or fast is None else slow / fast

    def over_floor(self, contender: str, measure: str) -> float | None:
        """Return how many times the floor of its precision a contender's pass takes; None where there is no floor."""
        group = None if contender.startswith("ours") else group_of(contender, measure)
        slow = self.median(contender, measure, group)
        floor = self.median(f"floor-{contender.partition('-')[2]}", measure, group)
        return None if slow is None or floor is None else slow / floor

    def others(self) -> str:
        """Say how much of the processors' time other processes took, on a middling sample and on the worst."""
        shares = [sample.others for sample in self.samples] or [0.0]
        return f"{median(shares):.0%} on the median sample, {max(shares):.0%} on the worst"

    def against_fastest(self, kind: str, contender: str, measure: str) -> float | None:
        """Return how many times a contender's answer is faster than the fastest peer's of a kind."""
        ratios = [self.ratio(peer, f"answer {kind}", contender, measure) for peer in PEERS]
        known = [ratio for ratio in ratios if ratio is not None]
        return min(known) if known else None


def group_of(peer: str, measure: str) -> str:
    """Return the group in which a peer is measured."""
    return "fresh" if measure in ("start", "peak") else peer.split("-")[0]


def judged(figures: Figures, weights: int | None) -> list[Judged]:
    """Return the figures that the project is judged by, as far as this benchmark measures them."""
    rows = [Judged("int8 weights on disk", 312, None if weights is None else weights / 1e6, " MB", "less")]
    rows += [
        Judged(name, most, figures.over_floor("ours-int8", measure), " times", "less")
        for measure, (name, most) in OVER_FLOOR.items()
    ]
    rows += [
        _times(f"exact int8 pass against {labels()[peer]}", None, figures.ratio(peer, "pass", *INT8_PASS))
        for peer in ("optimum-fp32", "optimum-int8")
    ]
    exact, cached = (figures.median("ours-int8", name) for name in ("pass", "pass cached"))
    rows.append(_times("cached int8 pass against exact", None, exact / cached if exact and cached else None))
    for measure, name, targets in (
        ("answer exact", "an answer, exact int8", (8, 5.5)),
        ("answer cached", "an answer, int8, cached", (14, 9)),
        ("answer fast", "an answer, int8, fast", (None, None)),
    ):
        for (kind, words), target in zip(KINDS.items(), targets, strict=True):
            faster = figures.against_fastest(kind, "ours-int8", measure)
            rows.append(_times(f"{name}, against the fastest peer, {words}", target, faster))
    peak = figures.median("ours-int8", "peak")
    rows.append(Judged("peak memory of a generation, int8", 600, None if peak is None else peak / 1e6, " MB", "less"))
    for peer in ("torch-fp32", "torch-bf16"):
        sooner = figures.ratio(peer, "start", "ours-int8", "start")
        rows.append(_times(f"to the end of the first step, int8, against {labels()[peer]}", 8, sooner))
    return rows


INT8_PASS = ("ours-int8", "pass")
OVER_FLOOR = {
    "pass": ("exact int8 pass over the floor", 1.12),
    "pass cached": ("cached int8 pass over the floor", 1.25),
    "pass few": ("cached int8 pass of 2 rows over the floor", 1.35),
}
"""The passes that are held against the floor: in words, and how many times the floor they may take."""


def _times(figure: str, target: float | None, measured: float | None) -> Judged:
    return Judged(figure, target, measured, " times")


def peer_rows(figures: Figures) -> list[list[str]]:
    """Return a row a peer: pass, over the floor, answers, composed and whole where that was timed, start, memory."""
    rows = []
    for peer in PEERS:
        if any(sample.contender == peer for sample in figures.samples):
            over = number(figures.over_floor(peer, "pass"))
            cells = [labels()[peer], thousandths(figures.median(peer, "pass")), over]
            for kind in KINDS:
                check = figures.median(peer, f"whole {kind}")
                cells.append(number(figures.median(peer, f"answer {kind}")) + (f" ({number(check)})" if check else ""))
            rows.append([*cells, number(figures.median(peer, "start")), megabytes(figures.median(peer, "peak"))])
    return rows


def our_rows(figures: Figures) -> list[list[str]]:
    """Return a row for each way of ours: pass, over the floor, answer, first step, memory."""
    rows = []
    for (contender, measure), words in OURS.items():
        seconds, made_of = figures.median(contender, measure), PASSES[measure]
        one_pass = figures.median(contender, made_of)
        if seconds is None and one_pass is None:
            continue
        exact = measure == "answer exact"
        rows.append(
            [
                f"diffutron-ort, {words}",
                thousandths(one_pass),
                number(figures.over_floor(contender, made_of)),
                number(seconds),
                number(figures.median(contender, "start") if exact else None),
                megabytes(figures.median(contender, "peak") if exact else None),
            ]
        )
    return rows


def floor_rows(figures: Figures) -> list[list[str]]:
    """Return a row a figure of the floors."""
    measured = [(words, [figures.median(floor, name) for floor in FLOORS], unit) for words, name, unit in FLOOR_FIGURES]
    return [
        [words, *(number(None if value is None else value * unit) for value in values)]
        for words, values, unit in measured
        if any(values)
    ]


def ratio_rows(figures: Figures) -> list[list[str]]:
    """Return how many times each of ours is faster than each peer: a row a peer and kind, a column a way of ours."""
    return [
        [f"{labels()[peer]}, {words}", *(number(figures.ratio(peer, f"answer {kind}", *ours)) for ours in OURS)]
        for peer in PEERS
        for kind, words in KINDS.items()
        if figures.median(peer, f"answer {kind}")
    ]


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return "–"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 3)}f}"


def thousandths(seconds: float | None) -> str:
    """Return seconds as milliseconds."""
    return number(None if seconds is None else seconds * 1000)


def megabytes(value: float | None) -> str:
    """Return bytes as MB."""
    return "–" if value is None else f"{value / 1e6:,.0f}"
