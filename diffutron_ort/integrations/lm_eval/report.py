"""The results of an evaluation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffutron_ort.integrations.lm_eval.fitting import Fit

KEPT = ("results", "groups", "group_subtasks", "versions", "n-shot", "n-samples", "higher_is_better", "lm_eval_version")
"""The keys of lm-eval's results that are written down."""

HEAD = ("task", "metric", "value", "± stderr", "documents", "did not fit")


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        results: lm-eval's own, as `simple_evaluate` returns them.
        fits: How the prompts of each task fitted into the model's context.
        settings: The model, and how it was evaluated.
        seconds: How long it took, the loading of the rows included.
    """

    results: Mapping[str, Any]
    fits: Mapping[str, Fit]
    settings: Mapping[str, Any]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it; numbers that are not finite are null."""
        kept = {name: _finite(self.results[name]) for name in KEPT if name in self.results}
        fits = {task: {**fit._asdict(), "share": fit.share} for task, fit in self.fits.items()}
        return {"settings": dict(self.settings), "seconds": round(self.seconds, 1), **kept, "did_not_fit": fits}

    def table(self) -> list[Sequence[str]]:
        """Return a row for each metric of each task, and of each group that has one, after a head."""
        return [HEAD, *(row for task, found in self.results["results"].items() for row in self._rows(task, found))]

    def _rows(self, task: str, found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
        first = (task, *self._ends(task, found))
        for key in [key for key in found if "," in key and "_stderr," not in key]:
            metric, _, how = key.partition(",")
            name, documents, cut = first
            error = _error(found.get(f"{metric}_stderr,{how}"))
            yield name, metric if how == "none" else f"{metric} ({how})", _number(found[key]), error, documents, cut
            first = ("", "", "")

    def _ends(self, task: str, found: Mapping[str, Any]) -> tuple[str, str]:
        """Return how many documents a task has, and how many of them did not fit."""
        fit = self.fits.get(task)
        if fit is None:  # a group
            return str(found.get("sample_len", "")), ""
        return str(fit.documents), f"{fit.cut} ({fit.share:.1%})"

    def summary(self) -> list[str]:
        """Return lines about the whole: how it was evaluated, and what did not fit."""
        total, cut = (sum(getattr(fit, name) for fit in self.fits.values()) for name in ("documents", "cut"))
        said = ", ".join(f"{name} {_brief(value)}" for name, value in self.settings.items() if value is not None)
        share = f"{cut} of {total} prompts ({cut / max(1, total):.1%}) did not fit into the model's context"
        longest = max(fit.tokens for fit in self.fits.values())
        lost = f"; they lost their beginning, at most {longest} tokens" if cut else ""
        return [f"{share}{lost}", f"{self.seconds:.1f} s; {said}"]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else str(value)


def _error(value: Any) -> str:
    """Return a standard error; nothing where the metric has none."""
    return f"± {value:.4f}" if isinstance(value, int | float) and math.isfinite(value) else ""


def _brief(value: Any) -> str:
    """Return a setting in words."""
    if isinstance(value, Mapping):
        return " ".join(map(str, value.values()))
    return "on" if value is True else "off" if value is False else str(value)


def _finite(value: Any) -> Any:
    """Return a value of JSON, with null in place of numbers that it does not have."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
