"""Draws the curves of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exercises import KINDS

if TYPE_CHECKING:
    from pathlib import Path


def draw(history: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and held-out exact match over the minutes of training."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    minutes = [row["minutes"] for row in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.semilogy(minutes, [row["loss"] for row in history], color="black")
    left.set(title="training loss (nats a token, smoothed)", xlabel="minutes on two cores")
    for kind, colour in zip(KINDS, plt.get_cmap("tab20").colors, strict=False):
        right.plot(minutes, [row[kind] for row in history], color=colour, linewidth=1, label=kind)
    right.plot(minutes, [row["overall"] for row in history], color="black", linewidth=2.5, label="overall")
    right.set(title="held-out exact match", xlabel="minutes on two cores", ylim=(0, 1.02))
    right.legend(fontsize=7, ncols=2, loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)
