"""The canvas on a terminal as it denoises, or plain lines where there is none."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from diffutron_ort.denoise import Step
from diffutron_ort.model import Diffutron

if TYPE_CHECKING:
    from rich.panel import Panel

MASK = "░░"
MARKS = {"\n": "⏎", "\t": "⇥"}


def show(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    """Pass `steps` on, each shown on `stream` first: live where that is a terminal and rich is installed."""
    return (_live if stream.isatty() and find_spec("rich") else _lines)(steps, model, stream)


def glyphs(model: Diffutron, token: int) -> str:
    """Return what stands for a token on the canvas."""
    if token == model.bundle.special.mask:
        return MASK
    if token in (model.bundle.special.pad, model.bundle.special.eos):
        return "·"
    piece = model.tokenizer.piece(token).replace("▁", " ")
    return "".join(MARKS.get(c, c if c.isprintable() else "�") for c in piece)


def _lines(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    for step in steps:
        tokens = step.ids[step.positions].tolist()
        commits = ", ".join(
            f"{position}:{glyphs(model, token)!r} {confidence:.3f}"
            for position, token, confidence in zip(step.positions.tolist(), tokens, step.confidence, strict=True)
        )
        print(f"step {step.index} block {step.block} {commits} | {step.text!r}", file=stream, flush=True)
        yield step


def _live(steps: Iterator[Step], model: Diffutron, stream: TextIO) -> Iterator[Step]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), auto_refresh=False) as live:
        for step in steps:
            live.update(_panel(step, model), refresh=True)
            yield step


def _panel(step: Step, model: Diffutron) -> "Panel":
    """Return the canvas: given tokens and masks dim, new ones bright, settled ones plain."""
    from rich.panel import Panel
    from rich.text import Text

    new, mask = set(step.positions.tolist()), model.bundle.special.mask
    canvas = Text()
    for position, token in enumerate(step.ids.tolist()):
        given = position < step.start
        style = "dim" if given else "bold black on green" if position in new else "dim blue" if token == mask else ""
        canvas.append(glyphs(model, token), style)
    title = f"step {step.index + 1} · block {step.block + 1} · {step.masks_left} masks left"
    return Panel(canvas, title=title, title_align="left")
