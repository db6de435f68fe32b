"""The figures of many documents."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from diffutron_ort.perplexity.ratio import Ratio
from diffutron_ort.perplexity.result import Result
from diffutron_ort.scoring.score import exponential


@dataclass(frozen=True)
class Summary:
    """The figures of many documents, over all their tokens; each is None where there is nothing to work it out from.

    The standard errors are over documents: how much the figures would change with other documents of the same kind.
    Each document has masks of its own, so the variation that they cause is already a part of these errors. The error
    from the masks alone is given beside them, and in place of them where there is a single document.

    Attributes:
        documents: How many have a score.
        empty: How many have no text.
        failed: How many could not be read or scored.
        tokens: How many tokens were scored.
        impossible_tokens: How many more the model cannot write; the figures leave them out.
        bytes: Length of the texts in UTF-8.
        passes: How many passes of the model they took.
        logprob: Of all texts together, in nats.
        nats_per_token: The mean of -log p over the tokens.
        standard_error: Of `nats_per_token`, over documents.
        sampling_error: The part of it that comes from the masks that were drawn; None for exact methods.
        bits_per_byte: -log2 p over the bytes.
        bits_per_byte_error: The standard error of it.
    """

    documents: int
    empty: int
    failed: int
    tokens: int
    impossible_tokens: int
    bytes: int
    passes: int
    logprob: float
    nats_per_token: float | None
    standard_error: float | None
    sampling_error: float | None
    bits_per_byte: float | None
    bits_per_byte_error: float | None

    @property
    def total(self) -> int:
        """How many documents there are: with a score, empty, and failed."""
        return self.documents + self.empty + self.failed

    @property
    def perplexity(self) -> float | None:
        """The exponential of `nats_per_token`; infinite if that is beyond floating point."""
        return None if self.nats_per_token is None else exponential(self.nats_per_token)

    @property
    def perplexity_error(self) -> float | None:
        """The standard error of `perplexity`, to first order."""
        if self.perplexity is None or self.standard_error is None:
            return None
        return self.perplexity * self.standard_error


def summarised(results: Iterable[Result]) -> Summary:
    """Return the figures of results, of which only one is held at a time."""
    tally = Tally()
    for result in results:
        tally.add(result)
    return tally.summary()


class Tally:
    """Sums over the results of documents, from which the figures follow at any time."""

    def __init__(self) -> None:
        self._nats, self._bits = Ratio(), Ratio()  # per token, per byte
        self._logprob = self._variance = 0.0
        self._drawn = True  # whether each score so far has a sampling error
        self._documents = self._empty = self._failed = 0
        self._tokens = self._impossible = self._bytes = self._passes = 0

    def add(self, result: Result) -> None:
        """Count a document."""
        if result.score is None:
            self._failed += result.error is not None
            self._empty += result.error is None
            return
        self._documents += 1
        self._tokens += result.tokens
        self._impossible += result.impossible_tokens
        self._bytes += result.score.bytes
        self._passes += result.score.passes
        self._logprob += result.logprob
        self._nats.add(-result.logprob, result.tokens)
        self._bits.add(-result.logprob / math.log(2), result.score.bytes)
        error = result.standard_error
        self._drawn &= error is not None
        self._variance += (error or 0.0) ** 2

    def summary(self) -> Summary:
        """Return the figures."""
        drawn = self._drawn and self._tokens > 0
        sampling = math.sqrt(self._variance) if drawn else None
        return Summary(
            documents=self._documents,
            empty=self._empty,
            failed=self._failed,
            tokens=self._tokens,
            impossible_tokens=self._impossible,
            bytes=self._bytes,
            passes=self._passes,
            logprob=self._logprob,
            nats_per_token=self._nats.value,
            standard_error=_or_sampling(self._nats, sampling, self._tokens),
            sampling_error=None if sampling is None else sampling / self._tokens,
            bits_per_byte=self._bits.value,
            bits_per_byte_error=_or_sampling(self._bits, sampling and sampling / math.log(2), self._bytes),
        )


def _or_sampling(ratio: Ratio, sampling: float | None, size: int) -> float | None:
    """Return a ratio's error over documents, or where there is one document, that of its masks."""
    error = ratio.standard_error
    return sampling / size if error is None and sampling is not None and size else error
