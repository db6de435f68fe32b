"""The denoising of an answer as an animated SVG picture, without scripts."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from textwrap import wrap
from unicodedata import east_asian_width

from diffutron_ort.cli.live import MASK, glyphs, unneeded
from diffutron_ort.cli.terminal import STEERING
from diffutron_ort.cli.writing import write_text
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Step

COLUMNS = 8
CELL = (104, 40)  # width, height in pixels
MARGIN = 16
LINE = 22
LETTERS = 88  # on a line: 9.03 pixels each in the widest of the fonts
CELL_LETTERS = 10
MOST_LINES = 4  # of the prompt
SECONDS_A_STEP = 0.25
SECONDS_AT_END = 3.0
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # everything except XML 1.0's Char

STYLE = """
text { font: 15px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933; text-anchor: middle }
.prompt { font-weight: bold; text-anchor: start } .answer { fill: #0b6e4f; text-anchor: start }
.mask rect { fill: #d8dee6 } .mask text { fill: #94a3b8 } .token rect { fill: #b7e4c7 }
.page { fill: #ffffff } rect { rx: 6 }
@media (prefers-color-scheme: dark) {
text { fill: #e5e9f0 } .answer { fill: #7fd8ae }
.mask rect { fill: #2b3440 } .mask text { fill: #64748b } .token rect { fill: #1f5f45 } .page { fill: #0d1117 }
}
@media (prefers-reduced-motion: reduce) { g { animation: none !important } }
"""


def write_svg(path: str | Path, steps: Sequence[Step], model: Diffutron, prompt: str) -> None:
    """Write the picture of `steps` to `path`.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, svg(steps, model, prompt))


def svg(steps: Sequence[Step], model: Diffutron, prompt: str) -> str:
    """Return the picture of `steps`: the prompt, the generated span cell by cell, and the answer.

    It leaves out masks that no step committed.
    """
    last, mask = steps[-1], model.bundle.special.mask
    left_out = unneeded(steps, mask)
    places = [p - last.start for p in range(last.start, len(last.ids)) if p not in left_out]
    asked, answered = _lines(prompt, MOST_LINES), _lines(last.text)
    top = MARGIN + len(asked) * LINE + MARGIN
    bottom = top + (max(places, default=-1) // COLUMNS + 1) * CELL[1] + MARGIN
    width, height = COLUMNS * CELL[0] + 2 * MARGIN, bottom + len(answered) * LINE + MARGIN
    parts = [_paragraph("prompt", MARGIN, asked), _cells(steps, model, places, top)]
    parts.append(_appearing(len(steps) - 1, _paragraph("answer", bottom, answered)))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    title = f"<title>{xml(prompt)} {xml(last.text)}</title>"
    page = f'<rect class="page" width="{width}" height="{height}"/>'
    style = f"<style>{STYLE}{_animations(len(steps))}</style>"
    return "\n".join([head, title, style, page, *parts, "</svg>\n"])


def xml(text: str) -> str:
    """Return a text for XML, with `�` for what XML cannot hold and for what would reorder the line."""
    return escape(NO_XML.sub("�", STEERING.sub("�", text)))


def _animations(steps: int) -> str:
    """Return the animation: what appears in a step is hidden until then, and the whole repeats."""
    seconds = steps * SECONDS_A_STEP + SECONDS_AT_END
    return "".join(_keyframes(step, seconds) for step in range(steps))


def _keyframes(step: int, seconds: float) -> str:
    begin = 100 * (step + 1) * SECONDS_A_STEP / seconds
    frames = f"0%, {begin:.2f}% {{ opacity: 0 }} {begin + 1:.2f}%, 100% {{ opacity: 1 }}"
    return f"@keyframes s{step} {{ {frames} }} .s{step} {{ animation: s{step} {seconds:.2f}s infinite }}\n"


def _cells(steps: Sequence[Step], model: Diffutron, places: Sequence[int], top: int) -> str:
    """Return the cells of the generated span at `places`: a mask in each, and the token that replaces it."""
    last, mask = steps[-1], model.bundle.special.mask
    when = {position - last.start: i for i, step in enumerate(steps) for position in step.positions.tolist()}
    parts = []
    for place in places:
        token = int(last.ids[last.start + place])
        x, y = MARGIN + place % COLUMNS * CELL[0], top + place // COLUMNS * CELL[1]
        parts.append(_cell("mask", x, y, MASK))
        if place in when and token != mask:
            parts.append(_appearing(when[place], _cell("token", x, y, glyphs(model, token))))
    return "\n".join(parts)


def _appearing(step: int, content: str) -> str:
    return f'<g class="s{step}">{content}</g>'


def _lines(text: str, most: int | None = None) -> list[str]:
    """Return a text as lines that fit into the picture, at most `most` of them."""
    wide = any(east_asian_width(letter) in "WF" for letter in text)
    return wrap(text, LETTERS // 2 if wide else LETTERS, max_lines=most, placeholder=" …")


def _paragraph(kind: str, y: int, lines: Sequence[str]) -> str:
    return "\n".join(
        f'<text class="{kind}" x="{MARGIN}" y="{y + i * LINE + 16}">{xml(line)}</text>' for i, line in enumerate(lines)
    )


def _cell(kind: str, x: int, y: int, text: str) -> str:
    width, height = CELL
    box = f'<rect x="{x + 2}" y="{y + 2}" width="{width - 4}" height="{height - 4}"/>'
    squeezed = f' textLength="{width - 12}" lengthAdjust="spacingAndGlyphs"' if len(text) > CELL_LETTERS else ""
    middle = f'x="{x + width // 2}" y="{y + height // 2 + 5}"'
    return f'<g class="{kind}">{box}<text {middle}{squeezed}>{xml(text)}</text></g>'
