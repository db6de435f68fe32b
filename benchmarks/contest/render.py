"""The figures as text for the terminal, as a section of the report, and as a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contest.report import KINDS, OURS, PEERS, Figures, floor_rows, judged, number, our_rows, peer_rows, ratio_rows
from contest.rounds import labels
from contest.trace import summary

ANSWERS = [f"answer, s, {words}" for words in KINDS.values()]
PEER_HEAD = ["peer", "pass, ms", "over the floor", *ANSWERS, "first step, s", "peak, MB"]
OUR_HEAD = ["ours", "pass, ms", "over the floor", "answer, s", "first step, s", "peak, MB"]
FLOOR_HEAD = ["floor", "int8", "float32"]
COLOURS = {"written": "#c9ced6", "cut": "#8a94a6", "ours": "#d1495b"}
LEGEND = {"written": "as people write it", "cut": "sampler cut to the block's rows", "ours": "ours"}

HOW = """\
A **pass** is 256 positions; peers return all logits, ours predict 32 rows, and a cached pass computes 32 positions
against the rest; in the line of fast, 32 positions against 96, of which 2 are predicted. The **floor** is what the
products and the attention of such a pass take alone, through ONNX Runtime, with the rates that were measured in the
same rounds: those of the peers are held against the same one, though it counts 32 rows of the head and they compute
256. An **answer** is 64 prompt and 64 new positions in blocks of 32, one token a step, temperature 0.1,
penalty 1.2. The peers run the reference's loop: once as people write it (all logits, and over all rows the penalty,
float64 noise, and the softmax in the type of the logits), once with the sampler cut to the masked rows of the block.
The sampler is in torch for torch, and for the others in numpy, which is faster, with large arrays used again. A peer's
answer is composed of four steps with 16.5 masks on average, times 64; in brackets, a whole one. Ours are whole answers,
none of which ends early, but for fast. All are medians of {rounds} rounds in which one contender after the other was
measured; each ratio compares figures of the same rounds. The first step is counted from the start of a process,
tokenizer included; the peak is VmHWM of a process that generated, mapped pages counted. Other processes took {others}
of the processors' time."""

FAST = """\
**fast**: the passes of {answers} answers that nano gave to held-out questions with that preset
({options}), replayed at full size on a canvas of 128 positions. The mean answer took {full:.2f} full passes of
{full_rows:.1f} rows and {cached:.2f} cached ones of {cached_rows:.1f} rows, and ended as early as nano's did, which
the peers' do not. A model that is less sure of itself needs more."""


def tables(figures: Figures, weights: int | None) -> list[tuple[list[str], list[list[str]]]]:
    """Return the head and the rows of each table that has any."""
    judgement = [one.row() for one in judged(figures, weights)]
    every = [
        (["figure", "target", "measured", "met"], judgement),
        (FLOOR_HEAD, floor_rows(figures)),
        (PEER_HEAD, peer_rows(figures)),
        (OUR_HEAD, our_rows(figures)),
        (["an answer: ours is faster than, times", *OURS.values()], ratio_rows(figures)),
    ]
    return [(head, rows) for head, rows in every if rows]


def text(figures: Figures, weights: int | None, table: Callable[[Sequence[str], Any], str]) -> str:
    """Return all tables, one below the other, as `table` writes them."""
    return "\n\n".join(table(head, rows) for head, rows in tables(figures, weights))


def explained(figures: Figures, rounds: int, trace: Mapping[str, Any] | None) -> str:
    """Return how the figures were had, and the trace behind `fast`."""
    how = HOW.format(rounds=rounds, others=figures.others())
    if trace is None:
        return how
    mean = summary(trace["traces"])
    fast = FAST.format(
        answers=len(trace["traces"]),
        options=", ".join(f"{name} {value}" for name, value in trace["options"].items()),
        full=mean["full passes"],
        full_rows=mean["rows of a full pass"],
        cached=mean["cached passes"],
        cached_rows=mean["rows of a cached pass"],
    )
    return f"{how}\n\n{fast}"


def bars(figures: Figures) -> list[tuple[str, float, str]]:
    """Return label, seconds of an answer, and kind of each bar, the slowest first."""
    found = [
        (labels()[peer], seconds, kind)
        for peer in PEERS
        for kind in KINDS
        if (seconds := figures.median(peer, f"answer {kind}"))
    ]
    found += [
        (f"diffutron-ort, {words}", seconds, "ours")
        for ours, words in OURS.items()
        if (seconds := figures.median(*ours))
    ]
    return sorted(found, key=lambda bar: -bar[1])


def draw(figures: Figures, path: Path) -> None:
    """Draw the seconds of an answer as horizontal bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    found = bars(figures)
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.3 * len(found)), layout="constrained")
    names, seconds, kinds = zip(*found, strict=True)
    drawn = axes.barh(range(len(found)), seconds, color=[COLOURS[kind] for kind in kinds], height=0.72)
    axes.bar_label(drawn, [f"{number(value)} s" for value in seconds], padding=4, fontsize=8.5, color="#333333")
    axes.set_yticks(range(len(found)), names, fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, max(seconds) * 1.09)
    axes.set_title(
        "Seconds for an answer of 64 new tokens after 64 (fast: as nano's answers went)", loc="left", fontsize=11
    )
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    patches = [Patch(color=COLOURS[kind], label=words) for kind, words in LEGEND.items()]
    axes.legend(handles=patches, loc="lower right", frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
