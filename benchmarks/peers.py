"""Measure generation side by side: what else a user could run, and ours, on a checkpoint of the real model's size.

    python benchmarks/peers.py --work DIR [--only NAME...] [--rounds N] [--passes] [--answers] [--fresh] [--json FILE]

Installed in an environment of its own, since optimum holds transformers back:

    python -m venv peers && . peers/bin/activate
    pip install -e ".[bench]" --extra-index-url https://download.pytorch.org/whl/cpu

What is missing in `--work` (the random checkpoint, our bundle, optimum's and OpenVINO's forms; 7 GB) is made first and
kept for the next run; `--checkpoint` and `--bundle` use what is elsewhere. Nothing else should run on the machine.
Everything together takes about 25 minutes on two cores; `--passes`, `--answers` and `--fresh` (first step and peak
memory) each ask for a part. A run of everything on the stand-in replaces the section in RESULTS.md and the picture; any
other does so if `--report` is given.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contest.contenders import CONTENDERS, chosen
from contest.prepare import BENCHMARKS, link, prepare, variant_bytes
from contest.render import draw, explained, text
from contest.report import Figures
from contest.rounds import Contest
from contest.trace import TRACES
from results import aligned, circumstances, machine, table, versions, write_section

SECTION, PICTURE = "peers", BENCHMARKS / "peers.png"
PACKAGES = ("diffutron-ort", "onnxruntime", "torch", "transformers", "optimum", "optimum-onnx", "openvino", "numpy")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is prepared")
    parser.add_argument("--checkpoint", type=Path, help="instead of a random one of full size")
    parser.add_argument("--bundle", type=Path, help="instead of an export of the checkpoint")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=", ".join(c.name for c in CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=3, help="fresh processes a contender")
    parser.add_argument("--questions", type=int, default=52, help="of nano, whose passes are replayed")
    for part in ("passes", "answers", "fresh"):
        parser.add_argument(f"--{part}", action="store_true", help="this part alone, or with the others that are named")
    parser.add_argument("--json", type=Path, help="write every sample")
    parser.add_argument("--report", action="store_true", help="write RESULTS.md and the picture in any case")
    return parser.parse_args()


def wanted_measures(options: argparse.Namespace) -> Callable[[str], bool]:
    """Return which measures of a worker are asked for."""
    every = not (options.passes or options.answers or options.fresh)
    kinds = {"pass": every or options.passes, "answer": every or options.answers}
    return lambda name: kinds.get(name.split()[0], False)


def record_traces(work: Path, questions: int) -> dict[str, Any] | None:
    """Write the passes of the preset fast on nano to the work folder, and return them; None where that fails."""
    command = [sys.executable, "-m", "contest.trace", str(work.resolve() / TRACES), "--count", str(questions)]
    if subprocess.run(command, cwd=BENCHMARKS, check=False).returncode:
        print("the passes of the preset fast could not be recorded: it is not measured", file=sys.stderr)
        return None
    recorded: dict[str, Any] = json.loads((work / TRACES).read_text("utf-8"))
    return recorded


def main() -> None:
    """Run the command."""
    options = arguments()
    started, work = time.perf_counter(), options.work
    contenders = chosen(options.only)
    work.mkdir(parents=True, exist_ok=True)
    link(work, "checkpoint", options.checkpoint)
    link(work, "ours", options.bundle)
    prepare(work, {contender.name.split("-")[0] for contender in contenders})
    some = options.passes or options.answers or options.fresh
    is_wanted = wanted_measures(options)
    trace = record_traces(work, options.questions) if is_wanted("answer") else None
    contest = Contest(
        contenders, work, is_wanted if trace else lambda name: is_wanted(name) and "fast" not in name, options.rounds
    )
    if is_wanted("pass") or is_wanted("answer"):
        contest.interleaved()
    if options.fresh or not some:
        contest.fresh(contenders, options.times)
    figures = Figures(contest.samples)
    weights = variant_bytes(work / "ours", "int8") if (work / "ours").exists() else None
    minutes = f"{(time.perf_counter() - started) / 60:.0f} minutes"
    print(text(figures, weights, aligned), *contest.failures, minutes, sep="\n\n")
    facts, packages = machine(), versions(PACKAGES)
    if options.json:
        samples = [sample._asdict() for sample in contest.samples]
        content = {"machine": facts, "versions": packages, "weights": weights, "trace": trace, "samples": samples}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if options.report or not (some or options.only or options.checkpoint):
        report(figures, weights, options.rounds, trace, circumstances(facts, packages))


def report(figures: Figures, weights: int | None, rounds: int, trace: dict[str, Any] | None, where: str) -> None:
    """Replace the picture and the section of the report."""
    draw(figures, PICTURE)
    parts = [
        "## Against the peers (`benchmarks/peers.py`)",
        f"{where} The checkpoint is the random stand-in of `benchmarks/full_size.py`.",
        f"![Seconds for an answer]({PICTURE.name})",
        explained(rounds, trace),
        text(figures, weights, table),
    ]
    write_section(SECTION, "\n\n".join(parts))


if __name__ == "__main__":
    main()
