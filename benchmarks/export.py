"""Measure exports side by side: time, memory and installed size of ours, of torch's own exporter and of optimum's.

    python benchmarks/export.py CHECKPOINT [--only NAME...] [--rounds N] [--report]

CHECKPOINT is what `full_size.py` writes. Each export is a process of its own and writes into a temporary folder, which
needs up to 5 GB for a moment. Those whose packages are missing are skipped: the extra `[bench]`, in an environment of
its own, has all of them. Everything takes about 15 minutes on two cores. `--report` replaces the section in RESULTS.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

from packaging.requirements import Requirement
from results import aligned, circumstances, machine, table, today, versions, write_section

OFFLINE = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"}
PACKAGES = ("diffutron-ort", "onnxruntime", "onnx", "onnxscript", "torch", "transformers", "optimum", "optimum-onnx")
HEAD = ("export", "s", "processors, s", "peak, MB", "installed, MB")
SAID = """Of a random checkpoint of the real model's size, in bfloat16, each in a process of its own, imports included;
medians of {rounds}. **Processors** is the time of all of them together, which other work on the machine changes less.
The **peak** is of resident memory, mapped pages counted. **Installed** are the packages that the export needs, with
all that these need in turn. Ours checks every graph against the reference and records cases for other hosts; torch's
exporter checks nothing, and optimum compares the output of one input. Their graphs return all logits, and have no
cache."""


class Route(NamedTuple):
    """A way to export.

    Attributes:
        label: What it is called in print.
        requirements: The packages that it needs, with their extras.
        variants: Of ours, the variants to write; () if the function of `THEIRS` with the route's name is to be called.
    """

    label: str
    requirements: tuple[str, ...]
    variants: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        names = [Requirement(text).name for text in self.requirements]
        return [name for name in names if not versions([name])]


OURS = ("diffutron-ort[cpu,export]",)
TORCH = ("torch", "transformers", "onnxscript")
OPTIMUM = ("optimum-onnx", "onnxruntime", "torch")
ROUTES = {
    "ours-int8": Route("diffutron-ort, int8", OURS, ("int8",)),
    "ours-fp32": Route("diffutron-ort, float32", OURS, ("fp32",)),
    "ours-both": Route("diffutron-ort, float32 and int8", OURS, ("fp32", "int8")),
    "torch-fp32": Route("transformers + torch.onnx.export, float32", TORCH),
    "optimum-fp32": Route("optimum, float32", OPTIMUM),
    "optimum-int8": Route("optimum, float32, then dynamic int8", OPTIMUM),
}


class Cost(NamedTuple):
    """What an export took: seconds, seconds of all processors, and bytes of memory at its peak."""

    seconds: float
    processors: float
    peak: int


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end.

    Raises:
        CalledProcessError: It failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | OFFLINE, stdout=2)  # what it prints is no figure
    _, status, usage = os.wait4(process.pid, 0)
    seconds, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def command(name: str, checkpoint: Path, out: Path) -> list[str]:
    """Return the command of a route."""
    if variants := ROUTES[name].variants:
        return [sys.executable, "-m", "diffutron_ort", "export", str(checkpoint), str(out), "--variant", *variants]
    return [sys.executable, __file__, str(checkpoint), "--one", name, "--out", str(out)]


def torch_fp32(checkpoint: Path, out: Path) -> None:
    """Export transformers' model by torch's own exporter."""
    import torch
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    model.config.return_dict = False
    names, example = ["input_ids", "attention_mask"], torch.ones(2, 16, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}
    program = torch.onnx.export(
        model,
        kwargs=dict.fromkeys(names, example),
        dynamo=True,
        input_names=names,
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(names, axes),
    )
    out.mkdir()
    program.save(out / "model.onnx", external_data=True)


def optimum_fp32(checkpoint: Path, out: Path) -> None:
    """Export by optimum."""
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), out, task="fill-mask", library_name="transformers")


def optimum_int8(checkpoint: Path, out: Path) -> None:
    """Export by optimum, and quantize with its recipe for processors with VNNI."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    optimum_fp32(checkpoint, out)
    recipe = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(out).quantize(save_dir=out / "int8", quantization_config=recipe)


THEIRS = {"torch-fp32": torch_fp32, "optimum-fp32": optimum_fp32, "optimum-int8": optimum_int8}


def needed(requirements: Iterable[str]) -> set[str]:
    """Return the names of installed packages: those required, and what they require in turn."""
    waiting, seen = [Requirement(text) for text in requirements], set[tuple[str, str]]()
    while waiting:
        one = waiting.pop()
        for extra in {"", *one.extras} if versions([one.name]) else ():
            if (one.name, extra) not in seen:
                seen.add((one.name, extra))
                waiting += required_by(one.name, extra)
    return {name.lower().replace("_", "-") for name, _ in seen}


def required_by(name: str, extra: str) -> Iterator[Requirement]:
    """Yield what an installed package requires here, for an extra or, where that is "", without one."""
    for one in map(Requirement, metadata.requires(name) or ()):
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one


def size(package: str) -> int:
    """Return the bytes of an installed package's files."""
    places = [Path(str(file.locate())) for file in metadata.files(package) or ()]
    return sum(place.stat().st_size for place in places if place.is_file())


def rounds(names: Sequence[str], checkpoint: Path, count: int) -> dict[str, list[Cost]]:
    """Return the costs of each route, measured one route after the other."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(count):
        for name in names:
            with tempfile.TemporaryDirectory(prefix="export-") as folder:
                costs[name].append(measure(command(name, checkpoint, Path(folder) / "out")))
    return costs


def rows(costs: Mapping[str, Sequence[Cost]]) -> list[list[str]]:
    """Return a row a route, with medians."""
    result = []
    for name, samples in costs.items():
        seconds, processors, peak = map(median, zip(*samples, strict=True))
        megabytes = (part / 1e6 for part in (peak, sum(map(size, needed(ROUTES[name].requirements)))))
        result.append([ROUTES[name].label, f"{seconds:.1f}", f"{processors:.1f}", *(f"{m:,.0f}" for m in megabytes)])
    return result


def report(lines: Sequence[Sequence[str]], count: int) -> None:
    """Replace the section of RESULTS.md."""
    where = circumstances(today(), machine(), versions(PACKAGES))
    title = "## What an export takes (`benchmarks/export.py`)"
    write_section("export", "\n\n".join([title, where, SAID.format(rounds=count), table(HEAD, lines)]))


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--only", nargs="+", default=list(ROUTES), choices=ROUTES, metavar="NAME", help=", ".join(ROUTES)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="replace the section in RESULTS.md")
    parser.add_argument("--one", choices=THEIRS, help=argparse.SUPPRESS)  # what a process of its own is asked to do
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = arguments(given)
    if options.one:
        return THEIRS[options.one](options.checkpoint, options.out)
    missing = {name: ROUTES[name].missing() for name in options.only}
    for name, packages in missing.items():
        if packages:
            print(f"{name}: skipped, since {', '.join(packages)} is not installed")
    lines = rows(rounds([name for name in options.only if not missing[name]], options.checkpoint, options.rounds))
    print(aligned(HEAD, lines))
    return report(lines, options.rounds) if options.report else None


if __name__ == "__main__":
    main()
