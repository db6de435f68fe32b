"""What a graph returned, looked at before it is used: one that is not what it says it is can return anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import BundleError
from diffutron_ort.runtime.contract import Predictions

Shape = Sequence[int]
FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)


def check_predictions(
    found: Predictions, rows: int, predictable: NDArray[np.bool_], path: Path, *, logits: bool = False
) -> None:
    """Refuse what no denoiser can have predicted; takes some microseconds.

    Args:
        found: As the graph returned it; `kept` is not looked at.
        rows: How many were asked for.
        predictable: Of each piece whether the graph can predict it, [vocab].
        path: Of the graph.
        logits: Whether they were asked for, too.

    Raises:
        BundleError: An output has another type or shape than it should have, or an id is none that can be predicted.
    """
    columns = int(np.count_nonzero(predictable))
    k = min(max((1, *np.shape(found.top_ids)[1:2])), columns)  # between one candidate and all pieces
    outputs: dict[str, tuple[Any, np.dtype[Any], Shape]] = {
        "top_ids": (found.top_ids, INT, (rows, k)),
        "top_logits": (found.top_logits, FLOAT, (rows, k)),
        "rest": (found.rest, FLOAT, (rows,)),
        "rest_tempered": (found.rest_tempered, FLOAT, (rows,)),
        "entropy": (found.entropy, FLOAT, (rows,)),
    }
    if logits:
        outputs["logits"] = (found.logits, FLOAT, (rows, columns))
    check_arrays(outputs, path)
    check_ids("top_ids", found.top_ids, len(predictable), path)
    if not predictable[found.top_ids].all():
        raise BundleError(f"{path} predicts ids that its output vocabulary has not: export the model again")


def check_arrays(outputs: Mapping[str, tuple[Any, np.dtype[Any], Shape]], path: Path) -> None:
    """Refuse an output, by name, of another type or shape than the two that stand beside it."""
    for name, (found, kind, shape) in outputs.items():
        if not isinstance(found, np.ndarray) or found.dtype != kind or found.shape != tuple(shape):
            said = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
            raise BundleError(f"{path} returned {name} as {said}, not {kind} {list(shape)}: export the model again")


def check_ids(name: str, ids: NDArray[np.int64], vocab_size: int, path: Path) -> None:
    """Refuse ids that are not below `vocab_size`."""
    if ids.view(np.uint64).max(initial=0) >= vocab_size:  # in which a negative number is a large one
        raise BundleError(f"{path} returned {name} that are not below {vocab_size}: export the model again")
