"""What the server counts, for Prometheus."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from diffutron_ort.runtime.contract import Forward, PassInput, Predictions

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server process.

    Where `PROMETHEUS_MULTIPROC_DIR` is set, `text` tells the sum over all processes that share it.

    Attributes:
        requests: By how they ended: `ok`, `refused`, `failed`, `gone` (the client hung up), `late`.
        waiting: Sequences in the queue; a work counts as one.
        running: Sequences that share passes now, and works between two of their passes.
        queue_seconds: From a request's arrival in the queue to its first pass.
        first_text_seconds: From there to the first text that cannot change any more, of streams.
        request_seconds: Of the whole answer.
        pass_seconds: Of a pass, `full` or `cached`.
        pass_sequences: How many sequences shared a pass.
        tokens: Of the `prompt` or the `completion`, of requests that were answered.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("diffutron_requests", "Requests, by how they ended", ["end"], registry=registry)
        self.waiting = _gauge("diffutron_waiting_sequences", "Sequences in the queue", registry)
        self.running = _gauge("diffutron_running_sequences", "Sequences that share passes now", registry)
        self.queue_seconds = _seconds("diffutron_queue_seconds", "Time in the queue", registry)
        self.first_text_seconds = _seconds(
            "diffutron_first_text_seconds", "Time to the first settled text of a stream", registry
        )
        self.request_seconds = _seconds("diffutron_request_seconds", "Time of the whole answer", registry)
        self.pass_seconds = Histogram(
            "diffutron_pass_seconds", "Time of a pass, full or cached", ["kind"], buckets=SECONDS, registry=registry
        )
        self.pass_sequences = Histogram(
            "diffutron_pass_sequences", "Sequences in a pass", buckets=SEQUENCES, registry=registry
        )
        self.tokens = Counter("diffutron_tokens", "Tokens of prompts and of completions", ["kind"], registry=registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            _Collector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)


class _Collector(MultiProcessCollector):
    """prometheus-client's collector, which does not fail at a file that a process which starts has only just made."""

    def collect(self) -> Iterable[Metric]:
        """Return the sums over all files that hold something."""
        files = [str(path) for path in Path(self._path).glob("*.db") if _size(path)]
        found: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return found


def _size(path: Path) -> int:
    """Return the size of a file; 0 where it has been removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Observed:
    """A model whose passes are timed.

    Attributes:
        began: When the pass that runs now began, on the clock of `time.monotonic`; None between passes.
    """

    def __init__(self, forward: Forward, metrics: Metrics) -> None:
        self._forward, self._metrics = forward, metrics
        self.began: float | None = None

    @property
    def batch_invariant(self) -> bool:
        """Whether sequences can share a pass."""
        return self._forward.batch_invariant

    def __call__(self, given: PassInput, /) -> Predictions:
        """Return the model's predictions."""
        self.began = began = time.monotonic()
        try:
            return self._forward(given)
        finally:
            self.began = None
            kind = "full" if given.past is None else "cached"
            self._metrics.pass_seconds.labels(kind).observe(time.monotonic() - began)
            self._metrics.pass_sequences.observe(len(given.input_ids))


def _gauge(name: str, meaning: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, meaning, registry=registry, multiprocess_mode="livesum")


def _seconds(name: str, meaning: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, meaning, buckets=SECONDS, registry=registry)
