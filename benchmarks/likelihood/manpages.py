"""Running Turkish text from a package: the manual pages of Debian's `manpages-tr`.

The package (2.0.6-2 in bookworm; the translations are under the GPL, or the licence of what they translate) is
downloaded by apt and unpacked, not installed. Its pages are groff; what is kept of one are the paragraphs that are
prose.
"""

import gzip
import re
import subprocess
from collections.abc import Iterator
from itertools import accumulate, takewhile
from pathlib import Path

PACKAGE = "manpages-tr"
LEAST, MOST = 200, 700  # characters of a page
SHORT = 60  # characters of a paragraph that is left out
FONT = re.compile(r"\\f(\[\w*\]|\(\w\w|\w)")
SIGNS = {r"\-": "-", r"\&": "", r"\e": "\\", r"\~": " ", r"\ ": " ", r"\(aq": "'", r"\(dq": '"', r"\|": "", r"\:": ""}
LETTERS = re.compile(r"[a-zçğıöşüâîû ,]", re.IGNORECASE)


def pages(folder: Path) -> dict[str, str]:
    """Return the prose of each page by its name; download the package into a folder if it is not there yet."""
    if not list(folder.glob("usr/share/man/tr/man*/*.gz")):
        download(folder)
    found: dict[str, str] = {}
    seen: set[str] = set()
    for path in sorted(folder.glob("usr/share/man/tr/man*/*.gz")):
        kept = prose(gzip.decompress(path.read_bytes()).decode("utf-8"), seen)
        if len(kept) >= LEAST:
            found[path.name.removesuffix(".gz")] = kept
    return found


def download(folder: Path) -> None:
    """Download and unpack the package."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True, capture_output=True)
    [package] = folder.glob(f"{PACKAGE}_*.deb")
    subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, check=True)


def prose(source: str, seen: set[str]) -> str:
    """Return the first paragraphs of prose of a page, a line each; those that have been seen are left out."""
    new = dict.fromkeys(text for text in map(plain, paragraphs(source)) if is_prose(text) and text not in seen)
    seen.update(kept := list(new))
    lengths = accumulate(len(text) + 1 for text in kept)
    return "\n".join(text for text, _ in takewhile(lambda each: each[1] <= MOST, zip(kept, lengths, strict=True)))


def paragraphs(source: str) -> Iterator[str]:
    """Yield the stretches of lines between two requests of groff, without comments and tags of lists."""
    lines: list[str] = []
    is_tag = False
    for line in re.sub(r"^\.ig\n.*?^\.\.$", "", source, flags=re.DOTALL | re.MULTILINE).splitlines():
        if line.startswith((".", "'")):
            yield " ".join(lines)
            lines = []
            is_tag = line.startswith(".TP")
        elif not lines and is_tag:
            is_tag = False
        else:
            lines.append(line)
    yield " ".join(lines)


def plain(text: str) -> str:
    """Return a text without groff's escapes."""
    text = FONT.sub("", text)
    for sign, meant in SIGNS.items():
        text = text.replace(sign, meant)
    return " ".join(text.split())


def is_prose(text: str) -> bool:
    """Return whether a paragraph is a sentence or several, mostly of letters."""
    is_sentence = text[:1].isupper() and text.endswith((".", ":", "!", "?"))
    return is_sentence and len(text) >= SHORT and len(LETTERS.findall(text)) > 0.9 * len(text)
