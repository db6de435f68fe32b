"""The denoising of an answer as an animated SVG picture that needs no script."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from diffutron_ort.denoise import Step
from diffutron_ort.model import Diffutron
from diffutron_ort.show import MASK, glyphs

COLUMNS = 8
CELL = (104, 40)  # width, height in pixels
MARGIN = 16
HEADER = 64
SECONDS_A_STEP = 0.25
SECONDS_AT_END = 3.0

STYLE = """
text { font: 15px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933; text-anchor: middle }
.prompt { font-weight: bold; text-anchor: start } .answer { fill: #0b6e4f; text-anchor: start }
.mask rect { fill: #d8dee6 } .mask text { fill: #94a3b8 } .token rect { fill: #b7e4c7 }
.page { fill: #ffffff } rect { rx: 6 }
"""


def write_svg(path: str | Path, steps: Sequence[Step], model: Diffutron, prompt: str) -> None:
    """Write the picture of `steps` to `path`: the prompt, the generated span cell by cell, and the answer."""
    last = steps[-1]
    span = last.ids[last.start :].tolist()
    when = {position - last.start: i for i, step in enumerate(steps) for position in step.positions.tolist()}
    seconds = len(steps) * SECONDS_A_STEP + SECONDS_AT_END
    width = COLUMNS * CELL[0] + 2 * MARGIN
    height = HEADER + -(-len(span) // COLUMNS) * CELL[1] + HEADER
    parts = [_line("prompt", MARGIN + 16, prompt), _appearing(len(steps) - 1, _line("answer", height - 24, last.text))]
    for place, token in enumerate(span):
        x, y = MARGIN + place % COLUMNS * CELL[0], HEADER + place // COLUMNS * CELL[1]
        parts.append(_cell("mask", x, y, MASK))
        if place in when and token != model.bundle.special.mask:
            parts.append(_appearing(when[place], _cell("token", x, y, glyphs(model, token))))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    title = f"<title>{escape(prompt)} {escape(last.text)}</title>"
    page = f'<rect class="page" width="{width}" height="{height}"/>'
    style = f"<style>{STYLE}{''.join(_keyframes(i, seconds) for i in range(len(steps)))}</style>"
    Path(path).write_text("\n".join([head, title, style, page, *parts, "</svg>\n"]), "utf-8")


def _keyframes(step: int, seconds: float) -> str:
    """Return the animation of what appears in `step`: hidden until then, and the whole repeats."""
    begin = 100 * (step + 1) * SECONDS_A_STEP / seconds
    frames = f"0%, {begin:.2f}% {{ opacity: 0 }} {begin + 1:.2f}%, 100% {{ opacity: 1 }}"
    return f"@keyframes s{step} {{ {frames} }} .s{step} {{ animation: s{step} {seconds:.2f}s infinite }}\n"


def _appearing(step: int, content: str) -> str:
    return f'<g class="s{step}">{content}</g>'


def _line(kind: str, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{MARGIN}" y="{y}">{escape(text)}</text>'


def _cell(kind: str, x: int, y: int, text: str) -> str:
    width, height = CELL
    box = f'<rect x="{x + 2}" y="{y + 2}" width="{width - 4}" height="{height - 4}"/>'
    return f'<g class="{kind}">{box}<text x="{x + width // 2}" y="{y + height // 2 + 5}">{escape(text)}</text></g>'
