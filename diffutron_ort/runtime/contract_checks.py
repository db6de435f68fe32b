"""Compare a graph, and what it returns, with the contract: a bundle may hold any graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.errors import BundleError
from diffutron_ort.runtime.contract import (
    DENOISER_INPUTS,
    DENOISER_OUTPUTS,
    PassInput,
    Predictions,
    Value,
    for_layers,
)

_WANTED = [value for value in DENOISER_OUTPUTS if "columns" in value.axes]
_KEPT = [value for value in DENOISER_OUTPUTS if value.per_layer]
_FETCHED = [value for value in DENOISER_OUTPUTS if value not in (*_WANTED, *_KEPT)]


def check_signature(session: Any, name: str, inputs: Sequence[Value], outputs: Sequence[Value], path: Path) -> None:
    """Compare the inputs and outputs of an opened graph with those of the contract.

    Args:
        session: ONNX Runtime's session of the graph.
        name: What the graph should be, for the error message.
        inputs: The contract's inputs.
        outputs: The contract's outputs.
        path: The graph's path, for the error message.

    Raises:
        BundleError: They differ in name, type or number of axes.
    """
    both = (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs()))
    for kind, rows, actual in both:
        expected = {row.name: (row.onnx_type, len(row.axes)) for row in rows}
        found = {value.name: (value.type, len(value.shape or ())) for value in actual}
        if found != expected:
            wrong = sorted(set(found.items()) ^ set(expected.items()))
            raise BundleError(f"{path} is not a {name}: its {kind}s differ in {brief(wrong)}; export the model again")


def check_layers(session: Any, path: Path, bundle: Bundle) -> None:
    """Compare the number of layers whose keys and values an opened denoiser takes with the manifest.

    Raises:
        BundleError: They differ. A graph that takes none is left to `check_signature`.
    """
    found = sum(value.name.startswith("past_key.") for value in session.get_inputs())
    if found and found != bundle.layers:
        raise BundleError(
            f"{path} has {found} layers in past_key, but its manifest says {bundle.layers}; export the model again"
        )


def check_sizes(session: Any, path: Path, bundle: Bundle) -> None:
    """Compare the axes of an opened denoiser whose size the model fixes with the manifest.

    Raises:
        BundleError: They differ.
    """
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    sizes = {"hidden": bundle.hidden_size, "columns": bundle.columns}
    for row in for_layers((*DENOISER_INPUTS, *DENOISER_OUTPUTS), bundle.layers):
        for axis, found in zip(row.axes, shapes[row.name] or (), strict=True):
            if found != sizes.get(str(axis), found):
                raise BundleError(
                    f"{path} has {brief(found)} {axis} in {row.name}, but its manifest says {sizes[str(axis)]}; "
                    "export the model again"
                )


def check_predictions(found: Predictions, batch: PassInput, predictable: NDArray[np.bool_], path: Path) -> None:
    """Check the predictions of a pass; this takes about 10 microseconds.

    Args:
        found: What the graph returned; the caches are not checked.
        batch: The pass.
        predictable: bool [vocab], whether the graph can predict each id.
        path: The graph's path, for error messages.

    Raises:
        BundleError: An output has the wrong type or shape, or an id cannot be predicted.
    """
    columns = int(np.count_nonzero(predictable))
    k = min(max((1, *np.shape(found.top_ids)[1:2])), columns)  # from one candidate to all pieces
    n, t = batch.target_ids.shape
    values = _FETCHED + _WANTED if batch.want_logits else _FETCHED
    sizes = {"n": n, "k": k, "t": t, "m": n, "columns": columns}
    check_arrays(values, [getattr(found, value.name) for value in values], sizes, path)
    check_ids("top_ids", found.top_ids, len(predictable), path)
    if not predictable[found.top_ids].all():
        raise BundleError(f"{path} predicts ids that are not in its output vocabulary: export the model again")


def check_arrays(values: Sequence[Value], arrays: Sequence[Any], sizes: Mapping[str, int], path: Path) -> None:
    """Check the types and shapes of outputs, given the sizes of their axes.

    Raises:
        BundleError: An output is not an array of the contract's type and of these sizes.
    """
    for value, found in zip(values, arrays, strict=True):
        shape = value.shape(sizes)
        if not isinstance(found, np.ndarray) or found.dtype != value.dtype or found.shape != shape:
            said = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
            raise _wrong(value, said, shape, path)


def check_kept(values: Sequence[Any], sizes: Mapping[str, int], path: Path) -> None:
    """Check the types and shapes of keys and values in ONNX Runtime's memory, given the sizes of their axes.

    Args:
        values: OrtValues: key and value of each layer, in turn.
        sizes: Of the axes.
        path: The graph's path, for error messages.

    Raises:
        BundleError: They are not the contract's.
    """
    expected = [(value.onnx_type, list(value.shape(sizes))) for value in _KEPT]
    for i, found in enumerate(values):
        layer, which = divmod(i, len(_KEPT))
        if (found.data_type(), found.shape()) != expected[which]:
            value = _KEPT[which].of_layer(layer)
            raise _wrong(value, f"{found.data_type()} {found.shape()}", expected[which][1], path)


def check_ids(name: str, ids: NDArray[np.int64], vocab_size: int, path: Path) -> None:
    """Check that ids are at least 0 and below `vocab_size`.

    Raises:
        BundleError: One is not.
    """
    if ids.view(np.uint64).max(initial=0) >= vocab_size:  # a negative number is a large unsigned one
        raise BundleError(f"{path} returned {name} that are not below {vocab_size}: export the model again")


def _wrong(value: Value, said: str, shape: Sequence[int], path: Path) -> BundleError:
    return BundleError(
        f"{path} returned {value.name} as {said}, not {value.dtype} {list(shape)}: export the model again"
    )
