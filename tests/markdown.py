"""Read the commands, programs and paths in a Markdown document."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"```(\w*)$")
OUTPUT = "text"  # the language of a block that holds what the block before it prints
SHELL = "sh"


@dataclass(frozen=True)
class Block:
    """Something to run.

    Attributes:
        line: Where it begins.
        language: `sh`, `python`, or another that is not run.
        code: Its lines.
        output: What it prints, if the document says so.
    """

    line: int
    language: str
    code: str
    output: str | None = None

    @property
    def commands(self) -> list[str]:
        """The commands of a block for the shell."""
        return [line for line in self.code.replace("\\\n", " ").splitlines() if line.strip()]


def blocks(text: str) -> list[Block]:
    """Return the fenced and the indented blocks of a document, each with its output."""
    found: list[Block] = []
    for block in _parts(text.splitlines()):
        if block.language != OUTPUT:
            found.append(block)
        elif found and _is_between_blank(text, found[-1], block):
            found[-1] = Block(found[-1].line, found[-1].language, found[-1].code, block.code)
    return found


def _is_between_blank(text: str, first: Block, second: Block) -> bool:
    """Return whether nothing but a fence and blank lines lies between two blocks."""
    between = text.splitlines()[first.line - 1 + first.code.count("\n") : second.line - 2]
    return all(not line.strip() or line == "```" for line in between)


def _parts(lines: list[str]) -> Iterator[Block]:
    """Yield every block; indented ones are for the shell, outside of lists alone."""
    place = 0
    while place < len(lines):
        fence = FENCE.fullmatch(lines[place])
        if fence:
            end = lines.index("```", place + 1)
            yield Block(place + 2, fence[1], "\n".join(lines[place + 1 : end]) + "\n")
        elif lines[place].startswith("    ") and not (place and lines[place - 1].strip()):
            end = next((i for i in range(place, len(lines)) if not lines[i].startswith("    ")), len(lines))
            yield Block(place + 1, SHELL, "\n".join(line[4:] for line in lines[place:end]) + "\n")
            end -= 1
        else:
            end = place
        place = end + 1


def links(text: str) -> set[str]:
    """Return the targets of a document's links that are files, without their anchors."""
    found = re.findall(r"\]\(([^()\s]+)\)", text)
    return {target.partition("#")[0] for target in found if not re.match(r"\w+:|#", target)}


def paths(text: str) -> set[str]:
    """Return what a document, its blocks aside, names in backticks that is a path of a repository: it has a slash."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = {span.partition("::")[0] for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)}
    return {span for span in spans if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", span)}


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and mkdocs both make them."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def read(path: Path) -> str:
    """Return a document's text."""
    return path.read_text("utf-8")
