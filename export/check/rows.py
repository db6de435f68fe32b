"""Compares logits of a quantized graph with float32's, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats
from diffutron_ort_export.check.verify import log_softmax

DECIDED = 0.01
"""The least lead in probability of float32's best token at which float32 is decided."""

BEYOND = 2 * 2**0.5
"""Two standard deviations of the difference of two logits' errors, in units of the errors' root mean square."""

AT_ONCE = 4
"""The number of rows that are compared at once: at float64, a row of the real size takes 2 MB, several times."""


@dataclass(frozen=True)
class Rows:
    """The results of comparing rows with float32, each [n]."""

    same: NDArray[np.bool_]  # whether the best token is float32's
    lead: Floats  # of float32's best token over its second
    error: Floats  # root mean square of the logits' differences
    decided: NDArray[np.bool_]  # whether float32 gives its best token DECIDED more probability than its second
    kl: Floats
    finite: NDArray[np.bool_]

    def card(self) -> dict[str, Any]:
        """Return the figures of the rows for the fidelity card."""
        clear = self.lead > self.error
        return {
            "rows": len(self.same),
            "top1_agreement": float(self.same.mean()),
            "clear_share": float(clear.mean()),
            "top1_agreement_clear": float(self.same[clear].mean()) if clear.any() else None,
            "kl": float(self.kl.mean()),
        }

    def agreement(self) -> float:
        """Return the share of clear rows that have float32's best token.

        Clear rows are those where float32 is decided and leads by more than the error. If they are fewer than half of
        the decided rows, the error is large, and all decided rows count. If float32 is never decided, as with random
        weights, the rows count whose lead exceeds nearly all errors.
        """
        counted = self.decided if self.decided.any() else self.lead > BEYOND * self.error
        clear = counted & (self.lead > self.error)
        counted = clear if 2 * clear.sum() >= counted.sum() else counted
        return float(self.same[counted].mean()) if counted.any() else 0.0


def join(parts: Sequence[Rows]) -> Rows:
    """Join several comparisons into one."""
    return Rows(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)))


def compare_rows(expected: Floats, found: Floats) -> Rows:
    """Compare logits of the same rows, each [n, vocab]; a row with a logit that is not finite is wrong."""
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(expected), AT_ONCE)]
    return join([compare_some(expected[part], found[part]) for part in parts])


def compare_some(expected: Floats, found: Floats) -> Rows:
    """Compare the logits of a few rows."""
    finite: NDArray[np.bool_] = np.isfinite(found).all(axis=-1)  # type: ignore[assignment]  # a row each
    found = np.where(finite[:, None], found, -expected)
    second, best = np.partition(expected, -2, axis=-1)[:, -2:].T
    error = np.sqrt(np.square(found - expected, dtype=np.float64).mean(axis=-1))
    p, q = log_softmax(expected), log_softmax(found)
    decided = np.exp(p.max(axis=-1)) * -np.expm1(second - best) > DECIDED
    same = (expected.argmax(-1) == found.argmax(-1)) & finite
    return Rows(same, best - second, error, decided, (np.exp(p) * (p - q)).sum(axis=-1), finite)
