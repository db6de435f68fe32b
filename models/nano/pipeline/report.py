"""The table and the picture of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Row = dict[str, Any]

HEADINGS = (
    "stage", "trained", "perplexity of sentences", "perplexity of answers", "exact match", "steps", "minutes (CPU)",
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Return the stages as a table in Markdown."""
    lines = [HEADINGS, ["---"] + ["--:"] * (len(HEADINGS) - 1), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(row: Row) -> list[str]:
    """Return the cells of a stage."""
    parameters = row["parameters"]
    return [
        row["stage"],
        f"{parameters['trained'] / parameters['all']:.1%}",
        shown(row["sentences"]["overall"]),
        shown(row["answers"]["overall"]),
        f"{row['exact_match']['overall']['share']:.1%}",
        f"{row['steps']:,}",
        f"{row['wall_minutes']:.0f} ({row['cpu_minutes']:.0f})",
    ]


def shown(perplexity: float) -> str:
    """Return a perplexity with two places, or with none where it is large."""
    return f"{perplexity:,.2f}" if perplexity < 100 else f"{perplexity:,.0f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw perplexity and exact match from stage to stage."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [row["stage"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for what, marker in (("sentences", "o"), ("answers", "s")):
        left.semilogy(names, [row[what]["overall"] for row in rows], marker=marker, label=f"held-out {what}")
    left.set(title="perplexity")
    left.legend(fontsize=8)
    right.bar(names, [row["exact_match"]["overall"]["share"] for row in rows], color="tab:green")
    right.set(title="exact match on held-out questions", ylim=(0, 1))
    figure.savefig(path, dpi=90)
    plt.close(figure)
