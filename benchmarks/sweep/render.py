"""The figures of a sweep as tables and as a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffutron_ort.config import preset
from sweep.figures import Figures
from sweep.settings import FINALISTS, settings

Table = Callable[[Sequence[str], Any], str]

COLOURS = {
    "exact": "#222222",
    "fewer steps": "#8a94a6",
    "cache": "#2a9d8f",
    "factor": "#e09f3e",
    "entropy": "#3d6fb6",
}
CHOSEN = "#d1495b"
PLAIN = ("exact", "cache", "cache, refresh 4 steps", "32 steps", "8 steps", "2 steps")
"""Settings that are shown in any case."""
LEAST_SPAN = 0.05
"""Of an axis of shares, so that a question or two do not look like a gulf."""
HEAD = [
    "setting",
    "exact match",
    "same text",
    "same tokens",
    "steps",
    "passes",
    "less",
    "passes, mmBERT",
    "less, mmBERT",
]
SHORT_HEAD = ["setting", "match", "text", "steps", "less", "harder: match", "text", "tokens", "steps", "less"]
ELSEWHERE_HEAD = [
    "fast on",
    "variant",
    "match, exact",
    "match",
    "text",
    "tokens",
    "steps",
    "less, nano",
    "less, mmBERT",
]

HOW = """\
Nano answers {count} questions of each group under every setting, and stops where the answer has ended. **exact** is the
preset `short` with nano's own options (temperature 0, penalty 1): every pass computes every token, every step commits
one. **Match**: right to the letter. **Text**, **tokens**: the same as exact's; tokens place by place, up to the end of
the answer. **Steps**: passes of a mean answer. **Less**: how many times fewer multiply-adds than exact, if a model of
mmBERT-base's shape (22 layers of 768, 256,000 pieces) made the same passes; for nano's own shape where it says so. They
are counted, not timed: the body for the tokens that a pass computed, their attention to all keys, and the head for the
rows that it predicted. A cached pass of {computed} tokens and {asked} rows is {share_nano:.0%} of a full one on nano's
canvases of {length} at its own shape, {share_mmbert:.0%} at mmBERT-base's, and {share_long:.0%} there on 256 positions.

One point is {point:.1f} questions. Nano is sure of itself: on the questions that it was taught, one pass for a
block is as good as 32 and tells no setting from another. So the **harder** ones decide, which go beyond what it was
taught (longer lists, numbers of two words to order, days farther away, wider gaps, three terms). It gets
{hard_match:.0%} of them right and is unsure, as a real model is. A star marks the Pareto set of match, text and
arithmetic, first among the held-out questions, then among the harder ones. Shown are plain settings, those around the
preset, and of the others the second set's that lose at most a point of match on both; the picture has all {settings}.

**fast** was chosen among the latter for the most texts kept at ten times less arithmetic. Rules that commit more save
little more where nano is sure, and lose answers where it is not. A cache that is never refreshed grows stale;
`refresh_entropy` at 0.01 mends that best here, but with a model that is never so sure it would ask for a full pass at
every step and save nothing, so a number of steps is the choice."""


def is_fast(name: str) -> bool:
    """Return whether the setting of this name is the preset `fast`."""
    options = next(setting.options for setting in settings() if setting.name == name)
    return preset("short").replace(**options) == preset("fast")


def label(row: Figures) -> str:
    """Return the name of a setting, and whether it is the preset."""
    return f"{row.setting} = fast" if is_fast(row.setting) else row.setting


def percent(share: float) -> str:
    """Return a share in per cent."""
    return f"{100 * share:.1f} %"


def full_row(row: Figures) -> list[str]:
    """Return a line of `HEAD`."""
    shares = [percent(share) for share in (row.match, row.same_text, row.same_tokens)]
    costs = [
        words
        for passes, less in zip(row.passes, row.times_less, strict=True)
        for words in (f"{passes:.2f}", f"{less:.1f}")
    ]
    return [f"{label(row)}{' *' if row.pareto else ''}", *shares, f"{row.steps:.2f}", *costs]


def full_tables(rows: Sequence[Figures], table: Table) -> str:
    """Return a table of everything for each group and variant."""
    parts = []
    for group, variant in dict.fromkeys((row.group, row.variant) for row in rows):
        own = [full_row(row) for row in rows if (row.group, row.variant) == (group, variant)]
        parts += [f"{group}, {variant}", table(HEAD, own)]
    return "\n\n".join(parts)


def of(rows: Sequence[Figures], group: str, variant: str) -> dict[str, Figures]:
    """Return the rows of one group and variant by the name of their setting."""
    return {row.setting: row for row in rows if (row.group, row.variant) == (group, variant)}


def frontier_rows(rows: Sequence[Figures]) -> list[list[str]]:
    """Return lines of `SHORT_HEAD`: what loses little, what is plain, and what is tried in every group.

    Of what loses at most a point of exact match, only what is in the Pareto set of the harder questions.
    """

    def is_good(row: Figures, exact: Figures) -> bool:
        return row.match >= exact.match - 0.01 and (row.pareto or row.group != groups[1])

    groups = list(dict.fromkeys(row.group for row in rows))
    held_out, hard = (of(rows, group, rows[0].variant) for group in groups[:2])
    lines = []
    for name, row in sorted(held_out.items(), key=lambda item: item[1].times_less[1]):
        other = hard[name]
        if name in PLAIN or name in FINALISTS or all(map(is_good, (row, other), (held_out["exact"], hard["exact"]))):
            stars = "".join(" *" if one.pareto else " –" for one in (row, other))
            first = [percent(row.match), percent(row.same_text), f"{row.steps:.2f}", f"{row.times_less[1]:.1f}"]
            shares = [percent(share) for share in (other.match, other.same_text, other.same_tokens)]
            lines.append([label(row) + stars, *first, *shares, f"{other.steps:.2f}", f"{other.times_less[1]:.1f}"])
    return lines


def elsewhere_rows(rows: Sequence[Figures]) -> list[list[str]]:
    """Return lines of `ELSEWHERE_HEAD`: the preset in every group, and with every variant."""
    lines = []
    for row in rows:
        if is_fast(row.setting):
            exact = of(rows, row.group, row.variant)["exact"]
            shares = [percent(share) for share in (exact.match, row.match, row.same_text, row.same_tokens)]
            less = [f"{value:.1f}" for value in row.times_less]
            lines.append([row.group, row.variant, *shares, f"{row.steps:.2f}", *less])
    return lines


def exact_rows(rows: Sequence[Figures]) -> list[list[str]]:
    """Return group, variant, match and agreement of the exact setting of every variant but the first."""
    shown = [row for row in rows if row.setting == "exact" and row.variant != rows[0].variant]
    return [[row.group, row.variant, *map(percent, (row.match, row.same_text, row.same_tokens))] for row in shown]


def explained(facts: Mapping[str, Any], rows: Sequence[Figures]) -> str:
    """Return how the figures were had."""
    groups = list(dict.fromkeys(row.group for row in rows))
    hard = of(rows, groups[1], rows[0].variant)["exact"].match
    return HOW.format(**facts, point=facts["count"] / 100, hard_match=hard)


def draw(rows: Sequence[Figures], path: Path) -> None:
    """Draw match and agreement against arithmetic, held-out questions to the left and harder ones to the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(row.group for row in rows))[:2]
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.4), layout="constrained", sharex=True)
    for column, group in enumerate(groups):
        own = list(of(rows, group, rows[0].variant).values())
        for line, (field, words) in enumerate((("match", "exact match"), ("same_text", "same text as exact"))):
            _panel(axes[line][column], own, field)
            axes[line][column].set_title(f"{words}, {group}", loc="left", fontsize=11)
    for panel in axes[1]:
        panel.set_xlabel("arithmetic of an answer, in full passes (mmBERT-base's shape, log scale)", fontsize=9.5)
    _legend(figure)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Any, rows: Sequence[Figures], field: str) -> None:
    """Draw one share of the rows against their cost, with the Pareto set of these two as a line."""
    from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

    best, edge = -1.0, []
    for row in sorted(rows, key=lambda row: (row.passes[1], -getattr(row, field))):
        if getattr(row, field) > best:
            best = getattr(row, field)
            edge.append((row.passes[1], best))
    axes.step(*zip(*edge, strict=True), where="post", color="#bbbbbb", linewidth=1.2, zorder=1)
    for row in rows:
        filled = COLOURS[row.family] if "cache" in row.setting else "white"
        place = row.passes[1], getattr(row, field)
        axes.scatter(*place, s=34, color=filled, edgecolor=COLOURS[row.family], linewidth=1.4, zorder=2)
        if is_fast(row.setting):
            axes.scatter(*place, s=230, marker="*", color=CHOSEN, edgecolor="white", zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(left=0.9)
    axes.set_xticks([1, 2, 4, 8, 16, 32])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    low, high = axes.get_ylim()
    if high - low < LEAST_SPAN:
        axes.set_ylim(high - LEAST_SPAN, high + 0.1 * LEAST_SPAN)
    axes.grid(color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any) -> None:
    """Put what colours and forms mean below the panels."""
    from matplotlib.lines import Line2D

    def dot(colour: str, filled: str, words: str) -> Line2D:
        return Line2D([], [], marker="o", linestyle="", color=colour, markerfacecolor=filled, label=words)

    kinds = [dot(colour, colour, name) for name, colour in COLOURS.items()]
    forms = [dot("#555555", "#555555", "with the cache"), dot("#555555", "white", "every pass full")]
    edge = Line2D([], [], color="#bbbbbb", label="best for its arithmetic")
    star = Line2D([], [], marker="*", markersize=14, linestyle="", color=CHOSEN, markeredgecolor="white", label="fast")
    figure.legend(
        handles=[star, *kinds, *forms, edge],
        frameon=False,
        fontsize=9,
        ncols=9,
        columnspacing=1.3,
        loc="outside lower center",
    )
