"""Measure `diffutron-ort generate --input`: what kills do to it, how fast it is, and the memory that it takes.

python benchmarks/bulk.py kills --lines 2000 --times 5
python benchmarks/bulk.py speed --lines 200
python benchmarks/bulk.py memory --lines 1000 100000
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.bulk.answering import Terms
from diffutron_ort.bulk.job import Job, run
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.runtime.contract import PassInput, Predictions

PROGRAM = (sys.executable, "-m", "diffutron_ort", "generate", "--threads", "1")
QUICK = ("--steps", "2", "--max-new-tokens", "8", "--temperature", "0.9")


def prompts(count: int) -> list[str]:
    """Return prompts of many lengths."""
    chance = random.Random(0)
    return [f"{i} artı {chance.randrange(90)} kaç eder{' acaba' * chance.randrange(20)}?" for i in range(count)]


def write(path: Path, count: int) -> Path:
    """Write a file of prompts, of which each hundredth cannot be answered."""
    records = [{"id": i, "prompt": text if i % 100 else None} for i, text in enumerate(prompts(count))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def command(source: Path, target: Path, flags: Sequence[str]) -> list[str]:
    """Return the command that answers a file."""
    return [*PROGRAM, "--input", str(source), "--output", str(target), *flags]


def kills(folder: Path, lines: int, times: int, processes: int, seed: int) -> None:
    """Kill a run at random moments, let it go on, and compare what it writes with a run that is left alone."""
    source, flags = write(folder / "in.jsonl", lines), (*QUICK, "--processes", str(processes))
    chance = random.Random(seed)
    begun = time.perf_counter()
    subprocess.run(command(source, folder / "whole.jsonl", flags), check=False, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    killed = folder / "killed.jsonl"
    for _ in range(times):
        with subprocess.Popen(command(source, killed, flags), stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0, 2 * seconds / times))
            os.kill(process.pid, signal.SIGKILL)
        print(f"killed with {killed.read_bytes().count(10) if killed.exists() else 0} lines written")
    subprocess.run(command(source, killed, flags), check=False)
    assert killed.read_bytes() == (folder / "whole.jsonl").read_bytes(), "the files differ"
    ids = [json.loads(line)["id"] for line in killed.read_text("utf-8").splitlines()]
    assert ids == list(range(lines)), "lines are missing, doubled or in disorder"
    print(f"{lines} lines, killed {times} times: the same file as in one run of {seconds:.0f} s")


def speed(folder: Path, lines: int, processes: Sequence[int], flags: Sequence[str]) -> None:
    """Compare with a loop over `generate`, whose answers must be the same."""
    source = write(folder / "in.jsonl", lines)
    model, options = Diffutron.from_pretrained(threads=1), _options(flags)
    given = [json.loads(line)["prompt"] for line in source.read_text("utf-8").splitlines()]
    begun = time.perf_counter()
    loop = [model.generate(text, seed=i, **options) if text else None for i, text in enumerate(given)]
    plain = time.perf_counter() - begun
    print(f"a loop over generate: {lines / plain:.1f} lines a second")
    for count in processes:
        target = folder / f"out{count}.jsonl"
        begun = time.perf_counter()
        subprocess.run(
            command(source, target, (*flags, "--processes", str(count))), check=False, stderr=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - begun
        answers = [json.loads(line).get("completion") for line in target.read_text("utf-8").splitlines()]
        assert answers == loop, "the answers differ"
        print(f"--processes {count}: {lines / seconds:.1f} lines a second, {plain / seconds:.2f} times, with the start")


def _options(flags: Sequence[str]) -> dict[str, float]:
    return {name[2:].replace("-", "_"): json.loads(value) for name, value in zip(flags[::2], flags[1::2], strict=True)}


class Constant:
    """A graph that takes no time: it predicts the same for every row."""

    batch_invariant = True

    def __call__(self, batch: PassInput) -> Predictions:
        """Return the ids from 100 on as the best ones of each row."""
        rows, best = len(batch.rows), np.arange(64)
        return Predictions(
            top_ids=np.tile(100 + best, (rows, 1)),
            top_logits=np.tile((64 - best).astype(np.float32), (rows, 1)),
            rest=np.full(rows, 0.5, np.float32),
            rest_tempered=np.full(rows, 0.5, np.float32),
            entropy=np.zeros(rows, np.float32),
            target_logits=np.zeros((rows, 0), np.float32),
            logits=None,
        )


def run_constant(source: str, target: str) -> None:
    """Answer a file with `Constant`."""
    loaded = Diffutron.from_pretrained(threads=1)
    model = Diffutron(loaded.bundle, loaded.tokenizer, Constant())
    Diffutron.from_pretrained = lambda *_, **__: model  # type: ignore[method-assign, assignment]
    terms = Terms(options={"steps": 2, "max_new_tokens": 8})
    run(Job(source=source, target=target, terms=terms), lambda: load_bundle().folder, lambda _: None)


def memory(folder: Path, lines: Sequence[int]) -> None:
    """Print the largest memory of runs over files of several lengths, with a graph that takes no time."""
    for count in lines:
        source, target = write(folder / f"{count}.jsonl", count), folder / f"{count}.out.jsonl"
        code = f"from benchmarks.bulk import run_constant; run_constant({str(source)!r}, {str(target)!r})"
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", code])
        _, _, usage = os.wait4(process.pid, 0)
        seconds, written = time.perf_counter() - begun, target.read_bytes().count(b"\n")
        print(
            f"{written} of {count} lines: {usage.ru_maxrss / 1024:.0f} MiB, {seconds:.0f} s "
            f"({usage.ru_utime:.0f} s of processor)"
        )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "speed", "memory"))
    parser.add_argument("--lines", type=int, nargs="+", default=[2000])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.what == "kills":
            kills(folder, asked.lines[0], asked.times, asked.processes[0], asked.seed)
        elif asked.what == "speed":
            speed(folder, asked.lines[0], asked.processes, ("--steps", "32", "--max-new-tokens", "32"))
        else:
            memory(folder, asked.lines)


if __name__ == "__main__":
    main()
