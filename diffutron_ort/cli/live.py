"""The canvas after each step: live on a terminal, or one line for each step."""

from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

import numpy as np

from diffutron_ort.cli.terminal import drawing
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Step

if TYPE_CHECKING:
    from rich.panel import Panel

MASK = "░░"
MARKS = {"\n": "⏎", "\t": "⇥"}


def show(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    """Yield `steps`, showing each on `stream` first: live if that is a terminal and rich is installed.

    Steps and blocks are shown counted from 1.
    """
    return (_live if stream.isatty() and find_spec("rich") else _lines)(steps, model, stream)


def glyphs(model: Diffutron, token: int) -> str:
    """Return how a token is shown on the canvas."""
    if token == model.bundle.special.mask:
        return MASK
    if token in (model.bundle.special.pad, model.bundle.special.eos):
        return "·"
    piece = model.tokenizer.piece(token).replace("▁", " ")
    return "".join(MARKS.get(c, c if c.isprintable() else "�") for c in piece)


def unneeded(steps: Sequence[Step], mask: int) -> set[int]:
    """Return the positions that no step committed, because the answer ended before them."""
    committed = {position for step in steps for position in step.positions.tolist()}
    last = steps[-1]
    return {position for position in np.flatnonzero(last.ids == mask).tolist() if position >= last.start} - committed


def ending(steps: Sequence[Step], mask: int) -> tuple[str, str]:
    """Return in words how `steps` ended, and how many masks they left; the latter is empty if there are none."""
    left, taken = len(unneeded(steps, mask)), f"after {len(steps)} {'step' if len(steps) == 1 else 'steps'}"
    return (f"answer ended {taken}", f"{left} masks not needed") if left else (f"done {taken}", "")


def _lines(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    taken = []
    for step in steps:
        taken.append(step)
        tokens = step.ids[step.positions].tolist()
        commits = ", ".join(
            f"{position}:{glyphs(model, token)!r} {confidence:.3f}"
            for position, token, confidence in zip(step.positions.tolist(), tokens, step.confidence, strict=True)
        )
        print(f"step {step.index + 1} block {step.block + 1} {commits} | {step.text!r}", file=stream, flush=True)
        yield step
    print(", ".join(filter(None, ending(taken, model.bundle.special.mask))), file=stream, flush=True)


def _live(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    from rich.console import Console
    from rich.live import Live

    taken, mask = [], model.bundle.special.mask
    with Live(console=Console(file=drawing(stream)), auto_refresh=False) as live:
        for step in steps:
            taken.append(step)
            title = f"step {step.index + 1} · block {step.block + 1} · {step.masks_left} masks left"
            live.update(_panel(step, model, title), refresh=True)
            yield step
        live.update(_panel(taken[-1], model, *ending(taken, mask), unneeded(taken, mask)), refresh=True)


def show_answer(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    """Yield `steps`, and show the generated span of each on a terminal, by rich; in the end nothing is left of it."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=drawing(stream)), auto_refresh=False, transient=True) as live:
        for step in steps:
            title = f"step {step.index + 1} · {step.masks_left} masks left"
            live.update(_panel(step, model, title, left_out=range(step.start)), refresh=True)
            yield step


def _panel(step: Step, model: Diffutron, title: str, below: str = "", left_out: Collection[int] = ()) -> "Panel":
    """Return the canvas: the prompt and masks dim, new tokens bright, earlier ones plain."""
    from rich.panel import Panel
    from rich.text import Text

    new, mask = set(step.positions.tolist()), model.bundle.special.mask
    canvas = Text()
    for position, token in enumerate(step.ids.tolist()):
        if position in left_out:
            continue
        given = position < step.start
        style = "dim" if given else "bold black on green" if position in new else "dim blue" if token == mask else ""
        canvas.append(glyphs(model, token), style)
    return Panel(canvas, title=title, title_align="left", subtitle=below or None, subtitle_align="left")
