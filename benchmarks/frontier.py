"""Sweep the approximate settings on nano: what each costs in quality, and what it saves in arithmetic.

    python benchmarks/frontier.py [--work FILE] [--seconds S] [--count N] [--json FILE]

Every answer is kept in the file `--work` and not asked for again, so the sweep goes on where it was stopped; with
`--seconds` it stops by itself, and exits with 75 while answers are missing. Everything takes about 20 minutes on two
cores. Arithmetic is counted from the passes that were made, not timed, so other work on the machine changes nothing.
A complete run with the counts and the model that are the defaults replaces the section in RESULTS.md and the picture;
any other does so if `--report` is given.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from results import aligned, circumstances, machine, table, today, versions, write_section
from sweep import render
from sweep.answers import Store, plans, work_off
from sweep.arithmetic import MMBERT, Pass, Shape
from sweep.figures import Figures, figures, marked
from sweep.hard import NANO
from sweep.settings import Group, groups, settings

SECTION, PICTURE = "frontier", Path(__file__).parent / "frontier.png"
PACKAGES = ("diffutron-ort", "onnxruntime", "numpy", "tokenizers")
COUNT, SEED = 260, 1
UNFINISHED = 75  # EX_TEMPFAIL: try again
LENGTH, COMPUTED, ASKED = 78, 32, 16
"""Positions of nano's canvas, tokens of a block, and masks in it on average: the pass whose share is told."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=NANO, help="a bundle that answers nano's questions")
    parser.add_argument("--variant", nargs="+", help="compared with the first; all unless given")
    parser.add_argument("--count", type=int, default=COUNT, help="questions a group")
    parser.add_argument("--seed", type=int, default=SEED, help="of the questions; the next one is for checking")
    parser.add_argument("--groups", type=int, help="only the first so many of the groups")
    parser.add_argument("--work", type=Path, default=Path("frontier.jsonl"), help="where answers are kept")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--json", type=Path, help="write every figure")
    parser.add_argument("--report", action="store_true", help="write RESULTS.md and the picture in any case")
    return parser.parse_args()


def variants(model: Path) -> list[str]:
    """Return a bundle's variants, float32 first."""
    found = json.loads((model / "diffutron.json").read_text("utf-8"))["variants"]
    return sorted(found, key=lambda name: name != "fp32")


def share(shape: Shape, length: int) -> float:
    """Return how much of a full pass's arithmetic a typical cached one takes on a canvas of `length`."""
    full, cached = (shape.multiply_adds(Pass(length, computed, ASKED)) for computed in (length, COMPUTED))
    return cached / full


def shape_facts(model: Path, count: int) -> dict[str, Any]:
    """Return what is said of the arithmetic, and of how many questions and settings there were."""
    shares = {
        "share_nano": share(Shape.read(model / "config.json"), LENGTH),
        "share_mmbert": share(MMBERT, LENGTH),
        "share_long": share(MMBERT, 256),
    }
    sizes = {"length": LENGTH, "computed": COMPUTED, "asked": ASKED}
    return {"count": count, "settings": len(settings()), **sizes, **shares}


def sweep(options: argparse.Namespace, chosen: list[Group]) -> list[Figures] | None:
    """Return the figures of everything that is asked for; None if time was up before all was answered."""
    names = options.variant or variants(options.model)
    store, todo = Store(options.work, options.model), plans(chosen, names, options.count)
    left = work_off(todo, store, options.model, options.seconds)
    if left:
        print(f"{left} answers are left: run it again", file=sys.stderr)
        return None
    shapes = Shape.read(options.model / "config.json"), MMBERT
    return marked([figures(plan, names[0], store, shapes) for plan in todo])


def report(rows: list[Figures], facts: dict[str, Any]) -> None:
    """Replace the picture and the section of the report."""
    render.draw(rows, PICTURE)
    parts = [
        "## What the shortcuts cost (`benchmarks/frontier.py`)",
        circumstances(today(), machine(), versions(PACKAGES)),
        f"![Exact match and agreement against arithmetic]({PICTURE.name})",
        render.explained(facts, rows),
        table(render.SHORT_HEAD, render.frontier_rows(rows)),
        "The preset **fast** under other conditions, each against exact under the same:",
        table(render.ELSEWHERE_HEAD, render.elsewhere_rows(rows)),
    ]
    others = render.exact_rows(rows)
    if others:
        parts += ["Exact in other variants:", table(["exact on", "variant", "match", "text", "tokens"], others)]
    write_section(SECTION, "\n\n".join(parts))


def main() -> int:
    """Run the command."""
    options = arguments()
    rows = sweep(options, groups(options.seed)[: options.groups])
    if rows is None:
        return UNFINISHED
    facts = shape_facts(options.model, options.count)
    print(render.full_tables(rows, aligned))
    if options.json:
        about = {"date": today(), "machine": machine(), "versions": versions(PACKAGES), **facts}
        known = {**about, "figures": [row._asdict() for row in rows]}
        options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    is_default = (options.count, options.seed, options.model, options.groups) == (COUNT, SEED, NANO, None)
    if options.report or (is_default and not options.variant):
        report(rows, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
