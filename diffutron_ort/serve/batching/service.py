"""The model behind the server: loaded and run in a thread of its own, for as long as it takes requests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from diffutron_ort.model import Diffutron
from diffutron_ort.serve.batching.identity import Identity
from diffutron_ort.serve.batching.jobs import Generation, Task
from diffutron_ort.serve.batching.metrics import Metrics, Observed
from diffutron_ort.serve.batching.scheduler import QueueFullError, Scheduler
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings

State = Literal["loading", "ready", "draining", "failed"]
SOON = 5  # seconds until a client may try again


class Service:
    """Answers jobs with one model.

    Attributes:
        state: `loading` until the model is there, `ready`, `draining` once no more requests are taken, or `failed`.
        failure: What loading, or the engine's thread, failed with.
        metrics: Count what is done.
    """

    def __init__(self, settings: Settings, load: Callable[[], Diffutron]) -> None:
        """Set up the service.

        Args:
            settings: Its bounds.
            load: Returns the model. It is called in the engine's thread.
        """
        self.state: State = "loading"
        self.failure: Exception | None = None
        self.metrics = Metrics()
        self._load, self._settings = load, settings
        self._scheduler: Scheduler | None = None
        self._loaded: tuple[Diffutron, Identity] | None = None
        self._observed: Observed | None = None
        self._active = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    @property
    def identity(self) -> Identity:
        """What the model is called.

        Raises:
            ApiError: It is not there yet.
        """
        if self._loaded is None:
            raise self._unavailable()
        return self._loaded[1]

    @property
    def capacity(self) -> int:
        """The number of sequences that may run or wait."""
        return self._scheduler.capacity if self._scheduler else 0

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._active == 0

    @property
    def pass_age(self) -> float | None:
        """Seconds that the pass which runs now has taken; None between passes."""
        began = self._observed.began if self._observed else None
        return None if began is None else time.monotonic() - began

    @contextmanager
    def request(self) -> Iterator[Diffutron]:
        """Count a request as active while it is answered, and yield the model, which only the engine's thread runs.

        Raises:
            ApiError: The service does not take requests now.
        """
        if self.state != "ready" or self._loaded is None:
            raise self._unavailable()
        self._active += 1
        try:
            yield self._loaded[0]
        finally:
            self._active -= 1

    def submit(self, job: Generation | Task[Any], *, taken: bool = False) -> None:
        """Put a job into the queue; in front of it, whether it is full or not, if the request was `taken` before.

        Raises:
            ApiError: The queue is full.
        """
        if self._scheduler is None or self.state == "failed":
            raise self._unavailable()
        try:
            self._scheduler.submit(job, taken=taken)
        except QueueFullError as error:
            raise ApiError(429, str(error), code="queue_full", retry_after=SOON) from error

    def drain(self) -> None:
        """Take no more requests; those that were taken go on."""
        if self.state in ("loading", "ready"):
            self.state = "draining"

    def abandon(self, error: Exception) -> None:
        """Fail all requests at once, whatever the engine is doing, and take no more."""
        self.state = "failed"
        if self._scheduler is not None:
            self._scheduler.abandon(error)

    def close(self, seconds: float = 1.0) -> None:
        """End the engine's thread, and wait for it for some seconds."""
        self.drain()
        if self._scheduler is not None:
            self._scheduler.close()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        """Load the model and run its engine; this is the engine's thread."""
        try:
            model = self._load()
            identity = Identity(model, self._settings)
        except Exception as error:
            self.failure, self.state = error, "failed"
            return
        self._observed = Observed(model.forward, self.metrics)
        model = Diffutron(model.bundle, model.tokenizer, self._observed)  # whatever works are made of it are observed
        width = self._settings.max_batch if model.forward.batch_invariant else 1
        self._scheduler = Scheduler(width, self._settings.max_queue, self.metrics)
        self._loaded = model, identity
        if self.state == "loading":
            self.state = "ready"
        try:
            self._scheduler.run(model.engine)
        except Exception as error:
            self.failure = error
            self.abandon(error)

    def _unavailable(self) -> ApiError:
        words = {"loading": "the model is being loaded", "draining": "the server is about to end"}
        message = f"{words.get(self.state, 'the model cannot run')}: try again later"
        return ApiError(503, message, code=self.state, retry_after=SOON)
