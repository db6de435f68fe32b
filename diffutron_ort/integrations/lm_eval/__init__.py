"""The model as lm-evaluation-harness sees it, and the tasks of CETVEL and TurBLiMP; needs the extra `[eval]`.

What the tasks read, in `sources`, can be told without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffutron_ort.integrations.lm_eval.adapter import DiffutronLM
    from diffutron_ort.integrations.lm_eval.evaluation import evaluate
    from diffutron_ort.integrations.lm_eval.report import Report

BATCH = 64  # requests that are worked on together

__all__ = ["DiffutronLM", "Report", "evaluate"]
_HOMES = {"DiffutronLM": "adapter", "Report": "report", "evaluate": "evaluation"}


def __getattr__(name: str) -> Any:
    """Import what is asked for by its name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
