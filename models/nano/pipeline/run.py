"""Train nano as the paper trained DiffutronLM: one command, stage by stage.

    python models/nano/pipeline/run.py

A base from random weights, continual pre-training by LoRA, and two stages of instruction tuning. Each is exported and
measured with the shipped runtime; the end is a table, its figures in `stages.json` and a picture in `stages.png`. Run
again after it was stopped, it goes on where it was, to the same result.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent))  # before a package that is called `evaluate`, as lm-eval brings one

from measure import export, measure  # noqa: E402
from report import draw, table  # noqa: E402
from stages import MINUTES, STAGES, Stage  # noqa: E402
from training import Settings, train  # noqa: E402


def once(path: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file of the run folder says, after doing the work and writing the file if it is not there."""
    if not path.exists():
        text = json.dumps(work(), indent=1)
        draft = path.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.replace(path)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def row(stage: Stage, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Train, export and measure a stage, as far as that has not been done, and return its figures."""
    folder = settings.run / stage.name
    print(f"{stage.name}: {stage.paper}", flush=True)
    trained = once(folder / "trained.json", lambda: train(stage, settings))
    bundle = once(folder / "exported.json", lambda: export(stage, settings.run, options.variants))
    measured = once(folder / "measured.json", lambda: measure(folder / "bundle", options.count, options.seed))
    return {"stage": stage.name} | trained | bundle | measured


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="two quiet cores; scales all steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leg", type=int, default=50, metavar="STEPS", help="steps from one save to the next")
    parser.add_argument("--count", type=int, default=130, help="held-out sentences and questions to measure with")
    parser.add_argument("--variants", nargs="+", default=["fp32", "int8"], help="what is exported; fp32 is measured")
    parser.add_argument("--run", type=Path, default=HERE.parent / "run" / "pipeline", help="where the stages are kept")
    parser.add_argument("--out", type=Path, default=HERE, help="where the figures and the picture go")
    options = parser.parse_args()
    for name in ("minutes", "threads", "leg", "count"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be more than 0, not {getattr(options, name)}")
    return options


def main() -> None:
    """Run the command."""
    options = arguments()
    options.run.mkdir(parents=True, exist_ok=True)
    chosen = {name: getattr(options, name) for name in ("minutes", "threads", "seed", "leg", "count", "variants")}
    if (begun := once(options.run / "settings.json", lambda: chosen)) != chosen:
        sys.exit(f"{options.run} holds a run with {begun}, and not {chosen}; give those, or another --run")
    settings = Settings(options.run, options.minutes / MINUTES, options.leg, options.threads, options.seed)
    rows = [row(stage, settings, options) for stage in STAGES]
    (options.out / "stages.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, options.out / "stages.png")
    print(table(rows))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
