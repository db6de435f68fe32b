"""Time a pass of nano and of the real shape, as `diffutron-ort doctor` does, and take a process's peak of memory.

    python benchmarks/passes.py FULL [--seconds S]

FULL is a bundle of the checkpoint that `benchmarks/full_size.py` writes, with the variants fp32 and int8. The section
`passes` of RESULTS.md is replaced; `diffutron_ort/doctor/figures.py` repeats its figures, and a test compares them.
"""

import argparse
from pathlib import Path

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import TOKENIZER, load_bundle
from diffutron_ort.checks.bench import started
from diffutron_ort.doctor.speed import measure

try:
    from benchmarks.results import circumstances, machine, table, today, versions, write_section
except ImportError:  # run as a script
    from results import circumstances, machine, table, today, versions, write_section

HEAD = ("model, variant", "full pass, ms", "cached pass, ms", "peak, MB", "weights, MB", "tokenizer.json, MB")
TEXT = """## A pass, as `doctor` measures it (`benchmarks/passes.py`)

{where}

A **full** pass computes 256 positions and predicts 32 rows; a **cached** one computes the 32 against the others. They
take turns for {seconds:g} s, at most 1,000 times; the figures are medians. The **peak** is VmHWM of a new process that
loads the model and answers with the preset `short`, mapped pages counted. **full size** is the random stand-in of
`benchmarks/full_size.py`. Other processes were at work; the measurement had real-time priority.

{rows}
"""


def row(name: str, folder: str | None, variant: str, seconds: float) -> list[str]:
    """Return the figures of one variant as a row."""
    bundle = load_bundle(folder, variant=variant)
    peak = started({"model": str(bundle.folder), "variant": variant})["peak"] or 0
    full, cached = measure(Diffutron.from_pretrained(bundle.folder, variant=variant), seconds, most=1000)
    sizes = (bundle.files[file].size for file in (bundle.variants[variant].weights, TOKENIZER))
    megabytes = (f"{size / 1e6:.3g}" if size < 1e8 else f"{size / 1e6:.0f}" for size in sizes)
    return [f"{name}, {variant}", f"{full.median:.3g}", f"{cached.median:.3g}", f"{peak / 1e6:.0f}", *megabytes]


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", metavar="FULL", help="bundle of the real size")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to time passes of each variant")
    arguments = parser.parse_args()
    models = (("nano", None), ("full size", str(Path(arguments.full))))
    found = [row(name, folder, v, arguments.seconds) for name, folder in models for v in ("fp32", "int8")]
    where = circumstances(today(), machine(), versions(["diffutron-ort", "onnxruntime", "numpy", "tokenizers"]))
    write_section("passes", TEXT.format(where=where, seconds=arguments.seconds, rows=table(HEAD, found)))


if __name__ == "__main__":
    main()
