"""Measure the server: what clients see, what a request costs over the library's call, memory, and what batching gives.

    python benchmarks/serve.py [--full BUNDLE] [--seconds S] [--work FILE] [--priority N] [--pause S]

Nano is measured always, and a bundle of the real model's size if one is given: `full_size.py` writes its weights, and
`diffutron-ort export --variant int8 int8-batch` the bundle. Every figure is kept in the file `--work` and not measured
again, so that the work goes on where it was stopped. With `--priority`, servers and clients run before everything else
on the machine (as by `chrt -r N`), and `--pause` leaves it to others between two figures. A run with both models
replaces the section in RESULTS.md and the picture.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import circumstances, machine, today, versions, write_section
from serving import measure
from serving.measure import CLIENTS, EXACT, FAST, MANY, Setting
from serving.render import draw, section

PICTURE = Path(__file__).parent / "serve.png"
PACKAGES = ("diffutron-ort", "onnxruntime", "uvicorn", "starlette", "msgspec", "numpy")
REQUESTS = 10_000
TURNS = 500  # of the library and the server, for the overhead


@dataclass
class Work:
    """The figures that there are, by their names.

    Attributes:
        path: The file that they are kept in.
        pause: Seconds to wait before each one that is measured.
    """

    path: Path
    pause: float

    def get(self, name: str, measured: Callable[[], Any]) -> Any:
        """Return a figure, which is measured if it is not there yet."""
        found = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        if name not in found:
            time.sleep(self.pause)
            print(name, flush=True)
            found[name] = measured()
            self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return found[name]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path, help="a bundle of the real model's size, with int8 and int8-batch")
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients (default: 20)")
    parser.add_argument("--work", type=Path, default=Path("serve.json"), help="where figures are kept")
    parser.add_argument(
        "--priority", type=int, default=0, help="real-time priority of what is measured (default: none)"
    )
    parser.add_argument("--pause", type=float, default=0, help="seconds between two figures (default: 0)")
    return parser.parse_args()


def settings(full: Path | None) -> dict[str, tuple[Setting, tuple[int, ...]]]:
    """Return the servers that are measured by their names, with the numbers of clients."""
    found = {
        "nano fp32": (Setting(None, "fp32", {}, 8), CLIENTS),
        "nano fp32, one at a time": (Setting(None, "fp32", {}, 1), CLIENTS),
    }
    if full is not None:
        for kind, options in (("fast", FAST), ("exact", EXACT)):
            clients = CLIENTS if kind == "fast" else (1, MANY)
            found[f"full int8-batch, {kind}"] = Setting(full, "int8-batch", options, 8), clients
            found[f"full int8-batch, {kind}, one at a time"] = Setting(full, "int8-batch", options, 1), (MANY,)
            found[f"full int8, {kind}"] = Setting(full, "int8", options, 8), (1, MANY)
    return found


def figures(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures by their names."""
    work = Work(options.work, options.pause)
    found = {}
    for name, (setting, clients) in settings(options.full).items():
        each = [
            work.get(f"{name}: {number}", lambda s=setting, n=number: measure.loads(s, (n,), options.seconds)[0])
            for number in clients
        ]
        found[name] = [measure.Load(*one) for one in each]
        if "one at a time" not in name:
            found[f"{name}, library"] = work.get(
                f"{name}: library", lambda s=setting: measure.alone(s, options.seconds / 2)
            )
    found["overhead"] = measure.Overhead(*work.get("overhead", lambda: measure.overhead(TURNS)))
    found["memory"] = [measure.Memory(*each) for each in work.get("memory", lambda: measure.memory(REQUESTS))]
    return found


def main() -> None:
    """Measure, and write the report."""
    options = arguments()
    if options.priority:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(options.priority))
    found = figures(options)
    about = circumstances(today(), machine(), versions(PACKAGES))
    text = section(found, about, options.priority, options.seconds)
    print(text)
    if options.full:
        write_section("serve", text)
        draw(found, PICTURE)


if __name__ == "__main__":
    main()
