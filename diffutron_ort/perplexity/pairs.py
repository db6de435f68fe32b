"""The difference between two runs over the same documents, one of which was written down."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.bulk.formats import JSONL, open_source
from diffutron_ort.errors import InputError
from diffutron_ort.files import Artifact, Fields
from diffutron_ort.perplexity.ratio import Ratio
from diffutron_ort.perplexity.result import Result

MOST_NATS = 1e12
RECORDS = Artifact(InputError, InputError, "give the --output of another run")


class Pairs:
    """How many more nats a token results take than the recorded ones of the same documents.

    Documents are compared in order, by name. One that the other run has not scored, or not the same number of tokens
    of, is left out.

    Attributes:
        documents: How many are compared.
        left_out: How many are not.
        ratio: The difference.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """Open the records of the other run.

        Args:
            name: Of the file.
            settings: What the figures of this run depend on: its method, and what its masks are drawn with.

        Raises:
            InputError: The first record is none of a document, or of a run with other settings.
            OSError: The file cannot be read.
        """
        self._records = _records(name)
        self._waiting = next(self._records, None)
        if self._waiting is None:
            raise InputError(f"{name} holds no document; {RECORDS.remedy}")
        for setting, value in settings.items():
            if (other := self._waiting.values.get(setting, value)) != value:
                raise InputError(
                    f"{name} has {setting} {brief(other)}, and this run {brief(value)}: run it again with the same"
                )
        self.documents = self.left_out = 0
        self.ratio = Ratio()

    def add(self, result: Result) -> None:
        """Compare a result with the next record."""
        record, self._waiting = self._waiting, self._next()
        if result.score is None:
            return
        logprob = _logprob(record, result, result.score.method)
        if logprob is None:
            self.left_out += 1
            return
        self.documents += 1
        self.ratio.add(logprob - result.logprob, result.tokens)

    def _next(self) -> Fields | None:
        """Return the next record; None from the first one that cannot be read, as where a run was killed."""
        with suppress(InputError, OSError):
            return next(self._records, None)
        return None

    def told(self) -> Mapping[str, Any]:
        """Return the figures as JSON."""
        return {
            "nats_per_token": self.ratio.value,
            "standard_error": self.ratio.standard_error,
            "documents": self.documents,
            "left_out": self.left_out,
        }


def _logprob(record: Fields | None, result: Result, method: str) -> float | None:
    """Return the log-probability that a record has of a result's document; None if it has none of the same tokens."""
    own = {"document": result.name, "method": method, "tokens": result.tokens}
    if record is None or any(record.values.get(name) != value for name, value in own.items()):
        return None
    with suppress(InputError):
        return record.number("logprob", -MOST_NATS, 0.0)
    return None


def _records(name: str) -> Iterator[Fields]:
    """Yield the records of a file, of which one is held."""
    source = open_source(name, JSONL)
    for number, row in enumerate(source.rows):
        line = source.format.read(number, row)
        if line.error is not None:
            raise InputError(f"{name}: {line.error}")
        record = Fields(line.record, f"line {number + 1} of {name}", RECORDS)
        record.text("document")
        yield record
