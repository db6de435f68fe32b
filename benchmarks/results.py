"""What the benchmarks share: sections of one report, tables, and what is to be said of the machine."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
TITLE = "# Results\n\nEach section is written by the benchmark that it names, which replaces it when it runs again.\n"
ISA = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
"""Flags of the processor that decide how fast integers and half-precision numbers are."""


def write_section(name: str, content: str, path: Path = RESULTS) -> None:
    """Replace section `name` of the report at `path`, or append it; everything else stays as it is.

    A section lies between two comments that bear its name, so that several scripts can write one file.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = f"{first}\n{content.strip()}\n{last}\n"
    text = path.read_text("utf-8") if path.exists() else TITLE
    before, found, rest = text.partition(f"{first}\n")
    if found:
        _, closed, after = rest.partition(f"{last}\n")
        if not closed:
            raise ValueError(f"{path} opens section {name!r} and does not close it: put {last} where it ends")
        text = before + section + after
    else:
        text = f"{text.rstrip()}\n\n{section}"
    path.write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown: the first column to the left, all others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def aligned(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for the terminal, with the columns of `table`."""
    lines = [list(map(str, line)) for line in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *cells[1:]]) for line, cells in zip(lines, padded, strict=True)
    )


def machine() -> dict[str, str]:
    """Return what the figures hang on: processor, how much of it this process may use, memory and system."""
    facts = _facts(Path("/proc/cpuinfo"))
    flags = facts.get("flags", facts.get("Features", "")).split()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    family = ", ".join(f"{name} {facts[name]}" for name in ("cpu family", "model") if name in facts)
    total = _facts(Path("/proc/meminfo")).get("MemTotal", "0 kB").split()[0]
    return {
        "processor": f"{facts.get('model name', platform.processor() or platform.machine())} ({family})",
        "cores": f"{usable}",
        "instructions": ", ".join(flag for flag in ISA if flag in flags) or "none of " + ", ".join(ISA),
        "memory": f"{int(total) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def today() -> str:
    """Return the date, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def circumstances(date: str, facts: Mapping[str, str], packages: Mapping[str, str]) -> str:
    """Return one paragraph that says when, where and with what was measured."""
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    what = ", ".join(f"{name} {version}" for name, version in packages.items())
    return f"Measured on {date}. {where[:1].upper()}{where[1:]}. With {what}."


def _facts(path: Path) -> dict[str, str]:
    """Return the first value of each name in a file of `name: value` lines; none where there is no such file."""
    facts: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    return facts
