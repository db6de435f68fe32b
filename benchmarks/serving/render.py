"""The figures of the server as tables and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from results import table

from serving.measure import MANY, Load, Memory, Overhead

COLOURS = {
    "nano fp32": "#3d6fb6",
    "nano fp32, one at a time": "#a9bfdd",
    "full int8-batch, fast": "#d1495b",
    "full int8, fast": "#e09f3e",
}
HEAD = ["server", "clients", "answers/s", "median, s", "95 %, s", "first text, s"]
GAIN_HEAD = ["passes", "variant", "one at a time", "8 share a pass", "gain"]

HOW = """\
Clients ask for streams over connections that they keep, each again as soon as it is answered, for {seconds:g} s; they
share the machine's cores with the server. **Answers/s** counts all clients; **median** and **95 %** are of the whole
answer, **first text** is the median time to the first text that cannot change any more. Nano answers with its own
options. **Full** are random weights of the real size: **fast** is that preset with 32 tokens in 16 steps (4 full passes
and 12 cached ones), **exact** 32 tokens in 8 full passes. Up to 8 sequences share a pass of `fp32` and `int8-batch`;
those of `int8` take turns. Nano gains nothing by sharing its small passes. **Library** is its own call in a loop, in
one process without a server."""
BUSY = """\
Other work was going on meanwhile; servers and clients had real-time priority {priority} over it, but caches and memory
were shared, so the figures are a little worse than those of an idle machine, and comparisons are fairer than values."""


def section(found: Mapping[str, Any], about: str, priority: int, seconds: float) -> str:
    """Return the section of the report."""
    parts = ["## The server (`benchmarks/serve.py`)", about, "![Answers a second and latency, by clients](serve.png)"]
    parts += [HOW.format(seconds=seconds), *([BUSY.format(priority=priority)] if priority else [])]
    parts += [table(HEAD, load_rows(found)), gains(found), costs(found["overhead"], found["memory"])]
    return "\n\n".join(part for part in parts if part)


def load_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return lines of `HEAD`."""
    rows = []
    for name, loads in found.items():
        if isinstance(loads, list) and loads and isinstance(loads[0], Load):
            for each in loads:
                times = [f"{value:.3f}" for value in (each.median, each.slow, each.first)]
                rows.append([name, str(each.clients), f"{each.rate:.2f}", *times])
        elif isinstance(loads, float):
            rows.append([name, "–", f"{loads:.2f}", f"{1 / loads:.3f}", "–", "–"])
    return rows


def gains(found: Mapping[str, Any]) -> str:
    """Return what it gives that sequences share passes, as a table."""
    rows = []
    for passes, kind in (("mostly cached: fast", "fast"), ("full: exact", "exact")):
        if f"full int8-batch, {kind}" in found:
            together, turns, single = (
                at(found[f"full {name}"], MANY).rate
                for name in (f"int8-batch, {kind}", f"int8, {kind}", f"int8-batch, {kind}, one at a time")
            )
            rows.append([passes, "int8-batch", f"{single:.2f}", f"{together:.2f}", f"{together / single:.2f}"])
            rows.append([passes, "int8, in turns", f"{turns:.2f}", "–", "–"])
    return f"Answers a second of the full size to {MANY} clients:\n\n{table(GAIN_HEAD, rows)}" if rows else ""


def at(loads: Sequence[Load], clients: int) -> Load:
    """Return what a number of clients saw."""
    return next(each for each in loads if each.clients == clients)


def costs(overhead: Overhead, memory: Sequence[Memory]) -> str:
    """Return what a request costs, and whether memory grows."""
    library, request = (1000 * seconds for seconds in overhead)
    early, late = memory[0], memory[-1]
    words = (
        f"A request for a small answer of nano takes {request:.1f} ms at the median where the library's call for the "
        f"same takes {library:.1f} ms, asked in turns: {request - library:.1f} ms more. The server's process holds "
        f"{early.size / 2**20:.0f} MiB after {early.requests:,} requests, and {late.size / 2**20:.0f} MiB after "
        f"{late.requests:,}."
    )
    return fill(words, 120)


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw answers a second and latency against the number of clients."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", sharex=True)
    for name, colour in COLOURS.items():
        if name in found:
            _lines(axes, name, found[name], colour)
    for panel, words in zip(axes, ("answers a second", "seconds for an answer: median, and 95 %"), strict=True):
        _dress(panel, words)
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale("log")
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(axes: Any, name: str, loads: Sequence[Load], colour: str) -> None:
    """Draw one server's figures into both panels."""
    clients = [each.clients for each in loads]
    axes[0].plot(clients, [each.rate for each in loads], marker="o", color=colour, label=name)
    median, slow = ([getattr(each, field) for each in loads] for field in ("median", "slow"))
    axes[1].plot(clients, median, marker="o", color=colour)
    axes[1].fill_between(clients, median, slow, color=colour, alpha=0.15, linewidth=0)


def _dress(panel: Any, words: str) -> None:
    """Give a panel its title and scales."""
    from matplotlib.ticker import NullLocator, ScalarFormatter

    panel.set_title(words, loc="left", fontsize=11)
    panel.set_xscale("log")
    panel.set_xticks([1, 4, 16, 64])
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("clients at once", fontsize=9.5)
    panel.grid(color="#eeeeee")
    panel.spines[["top", "right"]].set_visible(False)
