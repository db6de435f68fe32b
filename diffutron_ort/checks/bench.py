"""How fast a model runs on the machine at hand, and in how much memory."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffutron_ort.completion import Completion
from diffutron_ort.errors import DiffutronError
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.contract import PassInput, Past
from diffutron_ort.runtime.processor import processor_name
from diffutron_ort.runtime.session import Session

QUESTION = "On iki artı beş kaç eder?"
LENGTHS = (64, 128, 256)  # of those below the context; and the context
BLOCK = 32  # tokens that are predicted, and that a cached pass computes
PRESETS = ("short", "fast")
CHILD = "import time; begun = time.perf_counter(); from diffutron_ort.checks import bench; bench.start(begun)"

Report = dict[str, Any]


def bench(
    model: Diffutron, loading: Mapping[str, Any], *, starts: int = 3, rounds: int = 9, answers: int = 3
) -> Report:
    """Measure a model; every figure is the median of several.

    Args:
        model: Loaded by `Diffutron.from_pretrained`, so that its forward is a `Session`.
        loading: The arguments that it was loaded with, to load it again in new processes.
        starts: How many processes.
        rounds: How many passes of each kind; the kinds take turns.
        answers: How many answers of each preset, taking turns as well.

    Returns:
        `machine`, `start`, `passes` (one for each length) and `answers` (one for each preset), ready for JSON.

    Raises:
        DiffutronError: A new process cannot load the model.
    """
    return {
        "machine": _machine(model, loading),
        "start": _median([started(loading) for _ in range(starts)]),
        "passes": _passes(model, rounds),
        "answers": _answers(model, answers),
    }


def table(report: Report) -> str:
    """Return what `bench` measured as text for people."""
    start = report["start"]
    parts = [_aligned([[name, value] for name, value in report["machine"].items()], right=False)]
    parts.append(
        f"import, load and first step  {start['seconds']:.2f} s\n"
        f"resident after loading       {_megabytes(start['resident'])}\n"
        f"peak of an answer            {_megabytes(start['peak'])}"
    )
    passes = [[p["length"], p["rows"], f"{p['full_ms']:.2f}", f"{p['cached_ms']:.2f}"] for p in report["passes"]]
    parts.append(_aligned([["length", "rows", "full pass, ms", "cached pass, ms"], *passes]))
    head = ["preset", "steps", "full", "cached", "tokens", "seconds", "tokens a second"]
    answers = [[*(a[name] for name in head[:5]), f"{a['seconds']:.3f}", f"{a['rate']:.1f}"] for a in report["answers"]]
    parts.append(f"answers to {QUESTION!r}\n" + _aligned([head, *answers]))
    return "\n\n".join(parts)


def start(begun: float) -> None:
    """Load a model, take a step, and print what that took: the whole life of a process that `bench` starts.

    The arguments of `from_pretrained` are its command line's, as JSON.

    Args:
        begun: What `time.perf_counter` said before anything was imported.
    """
    model = Diffutron.from_pretrained(**json.loads(sys.argv[1]))
    loaded, resident = time.perf_counter(), _memory("VmRSS")
    steps = model.stream(QUESTION)
    next(steps)
    seconds = time.perf_counter() - begun
    for _ in steps:
        pass
    figures = {"seconds": seconds, "load_seconds": loaded - begun, "resident": resident, "peak": _memory("VmHWM")}
    sys.stdout.write(json.dumps(figures))


def started(loading: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what `start` prints in a new process."""
    command = [sys.executable, "-c", CHILD, json.dumps(loading)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise DiffutronError(f"a new process cannot load the model: {last}")
    figures: dict[str, float | None] = json.loads(done.stdout)
    return figures


def _memory(name: str, status: Path = Path("/proc/self/status")) -> int | None:
    """Return `VmRSS` or `VmHWM` of this process in bytes; where there is no /proc, the peak is known, or nothing."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if name == "VmHWM" else None


def _machine(model: Diffutron, loading: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment of the measurements."""
    session = session_of(model)
    return {
        "model": str(model.bundle.source.get("name", "unknown")),
        "variant": loading.get("variant") or model.bundle.default_variant,
        "processor": processor_name(),
        "threads": session.threads,
        "spin": session.spin,
        "provider": session.providers[0],
        "onnxruntime": sys.modules["onnxruntime"].__version__,  # which the session imported
    }


def session_of(model: Diffutron) -> Session:
    """Return the session in which a loaded model runs."""
    assert isinstance(model.forward, Session), "a model that was loaded runs in a session"
    return model.forward


def _passes(model: Diffutron, rounds: int) -> list[dict[str, Any]]:
    """Time a full and a cached pass at several lengths."""
    session, context = session_of(model), model.bundle.context_length
    lengths = [*(length for length in LENGTHS if length < context), context]
    pairs = [pass_pair(session, full_pass(model, length)) for length in lengths]
    calls = [partial(session, batch) for pair in pairs for batch in pair]
    taken = _turns(calls, rounds)
    return [
        {"length": length, "rows": len(pair[0].rows), "full_ms": full * 1000, "cached_ms": cached * 1000}
        for length, pair, full, cached in zip(lengths, pairs, taken[::2], taken[1::2], strict=True)
    ]


def full_pass(model: Diffutron, length: int) -> PassInput:
    """Return the batch of a canvas of `length` tokens that ends in a block of masks."""
    text, rows = model.tokenizer.encode(QUESTION), min(BLOCK, length)
    ids = np.resize(np.array(text, np.int64), length)
    ids[length - rows :] = model.bundle.special.mask
    places, one = np.arange(length), np.ones(1, np.float32)
    return PassInput(
        input_ids=ids[None],
        position_ids=places[None],
        rows=places[length - rows :],
        seen_ids=np.unique(text)[None],
        suppress_ids=np.zeros((1, 0), np.int64),
        repetition_penalty=one,
        temperature=one,
        target_ids=np.zeros((rows, 0), np.int64),
    )


def pass_pair(session: Session, full: PassInput) -> tuple[PassInput, PassInput]:
    """Return a full pass, and a cached pass for the same rows."""
    rows, places = full.rows, full.position_ids.copy()
    places[:, rows] = -1
    past = Past(places, session(replace(full, return_kv=True)).kv_caches or ())
    ids, positions = full.input_ids[:, rows], full.position_ids[:, rows]
    return full, replace(full, input_ids=ids, position_ids=positions, rows=np.arange(len(rows)), past=past)


def _answers(model: Diffutron, times: int) -> list[dict[str, Any]]:
    """Time whole answers, and count what they took and gave."""
    calls = [partial(model.complete, QUESTION, preset=name) for name in PRESETS]
    taken = _turns(calls, times)
    return [_counted(name, call(), seconds) for name, call, seconds in zip(PRESETS, calls, taken, strict=True)]


def _counted(name: str, answer: Completion, seconds: float) -> dict[str, Any]:
    """Return the figures of an answer; the same question has the same answer every time."""
    full, cached, *_ = answer.passes
    tokens = answer.completion_tokens
    counts = {"steps": answer.steps, "full": full, "cached": cached, "tokens": tokens}
    return {"preset": name, **counts, "seconds": seconds, "rate": tokens / seconds}


def _turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each of `calls`, interleaved, after a warm-up round."""
    taken = np.zeros((rounds + 1, len(calls)))
    for row in taken:
        for i, call in enumerate(calls):
            begun = time.perf_counter()
            call()
            row[i] = time.perf_counter() - begun
    return [float(seconds) for seconds in np.median(taken[1:], axis=0)]


def _median(figures: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each figure; None if it is unavailable."""
    columns = {name: [row[name] for row in figures] for name in figures[0]}
    return {
        name: None if None in column else float(np.median(np.array(column, float))) for name, column in columns.items()
    }


def _megabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.0f} MB"


def _aligned(lines: Sequence[Sequence[object]], right: bool = True) -> str:
    """Return rows as columns, the first flush left, the others flush right or left."""
    cells = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust, *[str.rjust if right else str.ljust] * (len(widths) - 1)]
    rows = [[side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)] for row in cells]
    return "\n".join("  ".join(row).rstrip() for row in rows)
