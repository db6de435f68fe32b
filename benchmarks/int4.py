"""Measure blockwise 4-bit weights beside int8: whether they would earn a variant.

    python benchmarks/int4.py BUNDLE WORK

BUNDLE is the checkpoint of `full_size.py`, exported as fp32; bundles of 2 GB in all go into the empty folder WORK. Size
and speed are of that, fidelity is nano's: random weights have none to lose. Replaces the section in RESULTS.md; takes
20 minutes on two cores.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from contest.rounds import Worker
from onnxruntime.quantization import matmul_nbits_quantizer as nbits
from results import aligned, circumstances, machine, table, today, versions, write_section
from sweep.hard import NANO

from diffutron_ort import Diffutron
from diffutron_ort_export.bundle_writer import files
from diffutron_ort_export.check.fidelity import Fp32Baseline, GraphForward
from diffutron_ort_export.check.verify import GraphSession
from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.graph.onnx_graph import Graph, View
from diffutron_ort_export.quantize.int8 import Quantizer

from evaluate import answers  # isort: skip # nano's, as the next one: sweep.hard has put its folder on the path
from questions import questions  # isort: skip

ROUNDS, QUESTIONS, SEEDS = 7, 325, (1, 2)
GRAPH, CONTRIB = "onnx/denoiser_int8.onnx", "com.microsoft"
HEAD = ("bits: body, table", "MB", "pass", "cached", "peak, MB", "agreement", "KL", "right", "same text")
SAID = """A **pass** computes 256 positions, a **cached** one 32 of them, and both predict 32 rows; in units of int8's
time, the median of {rounds} rounds in which one kind after the other was measured. The **peak** is VmHWM.
**Agreement** and **KL** are of the exporter's fidelity card on nano, **right** and **same text** (as float32's) of its
answers to {count} held-out questions. A 4-bit matrix is read by MatMulNBits, which quantizes activations to 8 bits, a
block of each row at a time (`accuracy_level` 4), and a 4-bit table by GatherBlockQuantized too, from the same bytes.
The codes are ONNX Runtime's own quantizer's, with zero points unless told."""
VERDICT = """So there is no variant int4. Smaller files and a lower peak are what it wins. A pass takes longer: with 16
rows and more it is bound by arithmetic, of which 4-bit weights save none. None of them keeps the 98 % that an export
aims at, and some not even the 90 % below which it is refused, though nano answers its own questions, of which it is
sure, nearly as well. And both operators are ONNX Runtime's own, where the exported graphs have standard ones alone."""


class Kind(NamedTuple):
    """Bits of the body's matrices and of the table, and how many weights share a scale where the bits are 4."""

    body: int
    table: int
    block: int = 0
    symmetric: bool = False

    def __str__(self) -> str:
        blocks = f", blocks of {self.block}" if self.block else ""
        return f"{self.body}, {self.table}{blocks}{', no zero points' if self.symmetric else ''}"


INT8 = Kind(8, 8)
KINDS = (INT8, *(Kind(4, 4, size) for size in (32, 64, 128)), Kind(4, 4, 32, True), Kind(4, 8, 32), Kind(8, 4, 32))


class Blockwise(Quantizer):
    """Makes products of MatMulNBits where a kind has 4 bits, and int8's where not."""

    def __init__(self, graph: Graph, kind: Kind) -> None:
        super().__init__(graph, {})
        self.kind, self.stored = kind, {}
        self.how = {"bits": 4, "block_size": kind.block}
        graph.model.opset_imports[CONTRIB] = 1

    def product(self, x: ir.Value, matrix: ir.Value) -> ir.Value | None:
        """By the body's bits."""
        return super().product(x, matrix) if self.kind.body == 8 else self._times(x, matrix.name)

    def embedding(self, ids: ir.Value) -> ir.Value | None:
        """From the bytes of the head's table, in another shape."""
        if self.kind.table == 8:
            return super().embedding(ids)
        codes, *scales = self._stored(TABLE)
        count, blocks, size = codes.shape
        flat = ir.Value(name=f"{TABLE}.flat", shape=ir.Shape([count, blocks * size]), type=codes.type)
        self.views.append(View(flat, codes, 0))
        return self._tape.op("GatherBlockQuantized", [flat, ids, *scales], self.how, domain=CONTRIB)

    def head(self, x: ir.Value, bias: ir.Value) -> ir.Value | None:
        """By the table's bits."""
        return super().head(x, bias) if self.kind.table == 8 else self.op("Add", self._times(x, TABLE), bias)

    def _times(self, x: ir.Value, name: str) -> ir.Value:
        """At accuracy_level 4, activations are 8-bit, with a scale for each block of each row."""
        codes, *scales = self._stored(name)
        how = {**self.how, "K": 2 * codes.shape[1] * codes.shape[2], "N": codes.shape[0], "accuracy_level": 4}
        return self._tape.op("MatMulNBits", [x, codes, *scales], how, domain=CONTRIB)

    def _stored(self, name: str) -> list[ir.Value]:
        """The codes [out, blocks, block / 2], scales and zero points of a matrix."""
        if name not in self.stored:
            matrix = self.weights(name).T if name == TABLE else self.weights(name)
            config = nbits.DefaultWeightOnlyQuantConfig(block_size=self.kind.block, is_symmetric=self.kind.symmetric)
            arrays = nbits.DefaultWeightOnlyQuantizer(config).qbits_block_quant(np.ascontiguousarray(matrix))
            arrays = arrays[: 2 if self.kind.symmetric else 3]
            self.stored[name] = [self.constant(f"{name}.{i}", array) for i, array in enumerate(arrays)]
        return self.stored[name]


def bundle(source: Path, out: Path, kind: Kind) -> None:
    """Write a bundle whose only variant is called int8, and is of this kind."""
    manifest = json.loads((source / "diffutron.json").read_text("utf-8"))
    (out / "onnx").mkdir(parents=True)
    for name in manifest["files"]:
        if not name.startswith("onnx/"):
            shutil.copy(source / name, out / name)
    graph = Graph(ir.load(source / manifest["variants"]["fp32"]["graph"]))
    Blockwise(graph, kind).run()
    graph.save(out / GRAPH, {})
    variant = {"graph": GRAPH, "weights": f"{GRAPH}.data", "fidelity": {}}
    variant |= {"batch_invariant": False, "providers": ["cpu"]} if 8 in kind[:2] else {}
    manifest |= {"files": files(out), "variants": {"int8": variant}}
    (out / "diffutron.json").write_text(json.dumps(manifest), encoding="utf-8")


def speed(works: Mapping[Kind, Path]) -> dict[Kind, list[str]]:
    """Return megabytes, both passes as times int8's, and the peak in megabytes, of each kind at full size."""
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(Worker("ours-int8", work / "full")) for kind, work in works.items()}
        rounds = [{kind: (w("pass"), w("pass cached")) for kind, w in workers.items()} for _ in range(ROUNDS)]
        peaks = {kind: worker("peak") / 1e6 for kind, worker in workers.items()}
    size = {kind: (work / f"full/ours/{GRAPH}.data").stat().st_size / 1e6 for kind, work in works.items()}
    times = {kind: [median(r[kind][i] / r[INT8][i] for r in rounds) for i in range(2)] for kind in works}
    return {k: [f"{size[k]:.0f}", *(f"{t:.2f}" for t in times[k]), f"{peaks[k]:.0f}"] for k in works}


def fidelity(works: Mapping[Kind, Path]) -> dict[Kind, list[str]]:
    """Return the card's agreement and KL, and how many answers are right and float32's own, of each kind of nano."""
    source = open_source(str(NANO / "checkpoint"))
    baseline = Fp32Baseline(source)
    exercises = [exercise for seed in SEEDS for exercise in islice(questions(seed, "held-out"), QUESTIONS)]
    expected = answers(Diffutron.from_pretrained(NANO, variant="fp32"), exercises, 26)
    result = {}
    for kind, work in works.items():
        card = baseline.card(GraphForward(GraphSession(work / "nano" / GRAPH, source.shape)), str(kind))
        texts = answers(Diffutron.from_pretrained(work / "nano", variant="int8"), exercises, 26)
        right = sum(text == exercise.answer for text, exercise in zip(texts, exercises, strict=True))
        same = sum(text == other for text, other in zip(texts, expected, strict=True))
        shares = (f"{100 * part / len(texts):.1f} %" for part in (right, same))
        result[kind] = [f"{100 * card['agreement']:.1f} %", f"{card['kl']:.3f}", *shares]
    return result


def report(rows: Sequence[Sequence[Any]]) -> None:
    """Replace the section."""
    where = circumstances(today(), machine(), versions(("diffutron-ort", "onnxruntime", "onnx-ir", "numpy", "torch")))
    said = SAID.format(rounds=ROUNDS, count=QUESTIONS * len(SEEDS))
    write_section("int4", "\n\n".join(["## 4 bits (`benchmarks/int4.py`)", where, said, table(HEAD, rows), VERDICT]))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    works = {kind: options.work / str(i) for i, kind in enumerate(KINDS)}
    for kind, work in works.items():
        bundle(options.bundle, work / "full" / "ours", kind)
        bundle(NANO, work / "nano", kind)
    fast, true = speed(works), fidelity(works)
    rows = [(str(kind), *fast[kind], *true[kind]) for kind in KINDS]
    print(aligned(HEAD, rows))
    report(rows)


if __name__ == "__main__":
    main()
