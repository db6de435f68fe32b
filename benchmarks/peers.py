"""Measure generation side by side: what else a user could run, and ours, on a checkpoint of the real model's size.

    python benchmarks/peers.py --work DIR [--only NAME...] [--rounds N] [--passes] [--answers] [--fresh] [--json FILE]
    python benchmarks/peers.py --again FILE... [--report]

Installed in an environment of its own, since optimum holds transformers back:

    python -m venv peers && . peers/bin/activate
    pip install -e ".[bench]" --extra-index-url https://download.pytorch.org/whl/cpu

What is missing in `--work` (the random checkpoint, our bundle, optimum's and OpenVINO's forms; 7 GB) is made first and
kept for the next run: delete `DIR/ours` after the exporter has changed. `--checkpoint` and `--bundle` link what is
elsewhere. Nothing else should run on the machine; how much did is said.
Everything together takes about 25 minutes on two cores; `--passes`, `--answers` and `--fresh` (first step and peak
memory) each ask for a part. A run of everything on the stand-in replaces the section in RESULTS.md and the picture; any
other does so if `--report` is given.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contest.contenders import CONTENDERS, chosen
from contest.prepare import BENCHMARKS, link, prepare, variant_bytes
from contest.render import draw, explained, text
from contest.report import Figures
from contest.rounds import Contest, Sample
from contest.trace import TRACES
from results import aligned, circumstances, machine, table, today, versions, write_section

SECTION, PICTURE = "peers", BENCHMARKS / "peers.png"
PACKAGES = ("diffutron-ort", "onnxruntime", "torch", "transformers", "optimum", "optimum-onnx", "openvino", "numpy")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--work", type=Path, help="folder for what is prepared")
    source.add_argument(
        "--again", type=Path, nargs="+", metavar="FILE", help="measure nothing: show the figures of --json files"
    )
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
    every = is_everything(options)
    kinds = dict.fromkeys(("pass", "rate", "copy"), every or options.passes) | {"answer": every or options.answers}
    return lambda name: kinds.get(name.split()[0], False)


def record_traces(work: Path, questions: int) -> dict[str, Any] | None:
    """Write the passes of the preset fast on nano to the work folder, and return them; None where that fails."""
    command = [sys.executable, "-m", "contest.trace", str(work.resolve() / TRACES), "--count", str(questions)]
    if subprocess.run(command, cwd=BENCHMARKS, check=False).returncode:
        print("the passes of the preset fast could not be recorded: it is not measured", file=sys.stderr)
        return None
    recorded: dict[str, Any] = json.loads((work / TRACES).read_text("utf-8"))
    return recorded


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, run the rounds, and return all that is known of them, as it goes into a file of `--json`."""
    work, contenders, is_wanted = options.work, chosen(options.only), wanted_measures(options)
    work.mkdir(parents=True, exist_ok=True)
    link(work, "checkpoint", options.checkpoint)
    link(work, "ours", options.bundle)
    prepare(work, {contender.name.split("-")[0] for contender in contenders})
    ours = any(contender.group == "ours" for contender in contenders)
    trace = record_traces(work, options.questions) if ours and is_wanted("answer") else None
    wanted = is_wanted if trace else lambda name: is_wanted(name) and name != "answer fast"
    contest = Contest(contenders, work, wanted, options.rounds)
    if is_wanted("pass") or is_wanted("answer"):
        contest.interleaved()
    if options.fresh or is_everything(options):
        contest.fresh(contenders, options.times)
    return {
        "date": today(),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "rounds": options.rounds,
        "weights": variant_bytes(work / "ours", "int8") if ours else None,
        "trace": trace,
        "failures": contest.failures,
        "samples": [sample._asdict() for sample in contest.samples],
    }


def read(files: Sequence[Path]) -> dict[str, Any]:
    """Return what files of `--json` know: of all their samples, and else what the last one says."""
    *others, known = (json.loads(file.read_text("utf-8")) for file in files)
    for other in others:
        for name in ("samples", "failures"):
            known[name] = other[name] + known[name]
        for name in ("weights", "trace"):
            known[name] = known[name] or other[name]
    result: dict[str, Any] = known
    return result


def is_everything(options: argparse.Namespace) -> bool:
    """Return whether no part was asked for alone."""
    return not (options.passes or options.answers or options.fresh)


def report(known: dict[str, Any], figures: Figures) -> None:
    """Replace the picture and the section of the report."""
    draw(figures, PICTURE)
    where = circumstances(known["date"], known["machine"], known["versions"])
    parts = [
        "## Against the peers (`benchmarks/peers.py`)",
        f"{where} The checkpoint is the random stand-in of `benchmarks/full_size.py`.",
        f"![Seconds for an answer]({PICTURE.name})",
        explained(figures, known["rounds"], known["trace"]),
        text(figures, known["weights"], table),
        *known["failures"],
    ]
    write_section(SECTION, "\n\n".join(parts))


def main() -> None:
    """Run the command."""
    options, started = arguments(), time.perf_counter()
    known = read(options.again) if options.again else measure(options)
    figures = Figures([Sample(**sample) for sample in known["samples"]])
    busy = f"other processes' share of the processors: {figures.others()}"
    minutes = f"{(time.perf_counter() - started) / 60:.0f} minutes"
    print(text(figures, known["weights"], aligned), *known["failures"], busy, minutes, sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    on_stand_in = not (options.only or options.checkpoint or options.again)
    if options.report or (on_stand_in and is_everything(options)):
        report(known, figures)


if __name__ == "__main__":
    main()
