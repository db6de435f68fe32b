"""Measures how far a quantized graph is from float32: single passes at three mask ratios, and greedy generations.

The generations are the quantized graph's own. float32 does not generate, which would take a pass for each of its
steps: it is asked, at some canvases of the quantized generations, all in one call of the reference, what it would have
committed there. As long as both commit the same, float32's own generation is the same.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.contract import Forward, PassInput
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.canvases import RATIOS, Masked, canvases, encoded, long_canvas
from diffutron_ort_export.check.coverage import coverage
from diffutron_ort_export.check.reference import Asked, Oracle, Reference
from diffutron_ort_export.check.rows import Rows, compare_rows, join
from diffutron_ort_export.check.trajectories import QUICK, THOROUGH, commits, followed, trajectory_card
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.masking import CERTAIN, masked_score
from diffutron_ort_export.passages import PASSAGES

PADDING = 8
"""How many tokens of padding follow the canvas on which masked scores are measured."""

DRAWS = 3
"""How often each passage is masked in a thorough measurement, instead of once."""


class Fp32Baseline:
    """The predictions of a source at float32, computed once and used for every variant.

    Attributes:
        source: The checkpoint.
        thorough: Whether to measure on more canvases and at every step of a generation.
        plan: How generations are followed.
        oracle: What predicts at float32.
        masked: The canvases for single passes.
    """

    def __init__(self, source: Source, *, oracle: Oracle | None = None, thorough: bool = False) -> None:
        self.source, self.thorough, self.plan = source, thorough, THOROUGH if thorough else QUICK
        self.oracle: Oracle = Reference(source.weights, source.shape) if oracle is None else oracle
        self.masked = canvases(source, DRAWS if thorough else 1)

    @functools.cached_property
    def logits(self) -> list[Floats]:
        """The logits [n, columns] of each canvas's rows."""
        return self.split(self.oracle.logits([canvas.asked for canvas in self.masked], self.source.kept))

    @functools.cached_property
    def masked_score(self) -> float:
        """What a graph may add to masked scores.

        It is judged by the scores on a canvas that is longer than a local layer sees, with padding after it.
        """
        if not isinstance(self.oracle, Reference):
            return CERTAIN
        canvas = long_canvas(self.source)
        padding = np.full(PADDING, self.source.tokenizer.special_ids["pad"])
        self.oracle.states([Asked(np.append(canvas.ids, padding), canvas.rows, PADDING)])
        return masked_score(self.oracle.excess)

    def coverage(self) -> dict[str, Any] | None:
        """Return what the output vocabulary loses on the passages and their canvases; None if it is the whole one."""
        if self.source.kept is None:
            return None
        logits = self.oracle.logits([canvas.asked for canvas in self.masked[:: len(PASSAGES) // 2]])
        return coverage(self.source.kept, logits, np.concatenate(list(encoded(self.source, PASSAGES))))

    def rows(self, forward: Forward, every: int = 1) -> dict[float, Rows]:
        """Compare a model's passes with float32's, by ratio, over every canvas or every `every`-th one."""
        masked = self.masked[::every]
        return by_ratio(self.logits[::every], (logits_of(forward, canvas) for canvas in masked), masked)

    def oracle_rows(self, oracle: Oracle) -> dict[float, Rows]:
        """Compare the predictions of a model that no graph runs here with float32's, by ratio."""
        found = oracle.logits([canvas.asked for canvas in self.masked], self.source.kept)
        return by_ratio(self.logits, self.split(found), self.masked)

    def card(
        self, compared: Mapping[float, Rows], forward: Forward, name: str, *, oracle: Oracle | None = None
    ) -> dict[str, Any]:
        """Return the fidelity card of a model, from its passes and generations.

        Args:
            compared: The passes, as `rows` or `oracle_rows` returns them.
            forward: The model, or an approximation of it, which generates the canvases that are asked about.
            name: The variant's name, for errors.
            oracle: The model's predictions, if `forward` is an approximation.

        Raises:
            FidelityError: A logit is not finite.
        """
        card, steps = passes_card(compared, name), followed(forward, self.source, self.plan)
        if oracle is not None:
            own = commits(oracle, steps, self.source)
            steps = [
                step._replace(positions=commit.positions, tokens=commit.tokens)
                for step, commit in zip(steps, own, strict=True)
            ]
        found = commits(self.oracle, steps, self.source)
        return card | {"trajectories": trajectory_card(steps, found, self.plan)}

    def split(self, logits: Floats) -> list[Floats]:
        """Return the logits of each canvas's rows, from those of all."""
        return np.split(logits, np.cumsum([canvas.rows.size for canvas in self.masked])[:-1])


def by_ratio(expected: Iterable[Floats], found: Iterable[Floats], masked: Sequence[Masked]) -> dict[float, Rows]:
    """Compare the logits [n, columns] of each canvas with float32's, by ratio."""
    compared: dict[float, list[Rows]] = {ratio: [] for ratio in RATIOS}
    for canvas, ours, theirs in zip(masked, expected, found, strict=True):
        compared[canvas.ratio].append(compare_rows(ours, theirs))
    return {ratio: join(rows) for ratio, rows in compared.items()}


def passes_card(compared: Mapping[float, Rows], name: str) -> dict[str, Any]:
    """Return the figures of single passes for the fidelity card.

    Raises:
        FidelityError: A logit is not finite.
    """
    whole = join(list(compared.values()))
    if not whole.finite.all():
        raise FidelityError(
            f"variant {name}: {(~whole.finite).sum()} of {whole.finite.size} rows have logits that are not finite. "
            "Nothing was written; choose another variant for this checkpoint"
        )
    return {
        **whole.card(),
        "agreement": whole.agreement(),
        "mask_ratios": {str(ratio): rows.card() for ratio, rows in compared.items()},
    }


def pass_over(ids: Ids, rows: Ids) -> PassInput:
    """Return the input of a pass over one sequence [seq], without penalty, that asks for logits."""
    one, none = np.ones(1, np.float32), np.zeros((1, 0), np.int64)
    return PassInput(
        input_ids=ids[None],
        position_ids=np.arange(ids.size)[None],
        rows=rows,
        seen_ids=none,
        suppress_ids=none,
        repetition_penalty=one,
        temperature=one,
        target_ids=np.zeros((rows.size, 0), np.int64),
        want_logits=True,
    )


def logits_of(forward: Forward, canvas: Masked) -> Floats:
    """Return the raw logits [n, columns] of a canvas's rows."""
    logits = forward(pass_over(canvas.ids, canvas.rows)).logits
    assert logits is not None, "they were requested"
    return logits
