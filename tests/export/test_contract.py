"""The exporter's graphs have the inputs and outputs of the contract's tables, in their order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from diffutron_ort.runtime.contract import (
    DENOISER_INPUTS,
    DENOISER_OUTPUTS,
    GENERATION_INPUTS,
    GENERATION_OUTPUTS,
    Value,
    for_layers,
)
from diffutron_ort_export.graph.generation import denoise, generate
from diffutron_ort_export.graph.precision import Precision
from diffutron_ort_export.graph.reductions import Predictions
from diffutron_ort_export.graph.splice import RESULTS, splice
from tests.export.networks import SMALL, all_in, written

KEPT = [4, *range(20, 60)]


def names(values: Sequence[Value]) -> list[str]:
    return [value.name for value in values]


def described(value: onnx.ValueInfoProto) -> tuple[str, str, list[str | int]]:
    """A name, an element type, and the axes."""
    kind = value.type.tensor_type
    return (
        value.name,
        str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))),
        [d.dim_param or d.dim_value for d in kind.shape.dim],
    )


def expected(values: Sequence[Value], sizes: dict[str, int]) -> list[tuple[str, str, list[str | int]]]:
    return [(value.name, value.dtype, [sizes.get(str(axis), axis) for axis in value.axes]) for value in values]


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(("kept", "columns", "k"), [(None, 150, 64), (KEPT, 41, 41)])
def test_a_denoiser_has_the_tables_inputs_and_outputs(
    tmp_path: Path, precision: Precision, kept: list[int] | None, columns: int, k: int
) -> None:
    shape = replace(SMALL, layers=3)
    graph = onnx.load(
        written(tmp_path, shape, precisions=all_in(precision, shape), kept=kept), load_external_data=False
    ).graph
    sizes = {"hidden": 32, "columns": columns, "k": k}
    assert list(map(described, graph.input)) == expected(for_layers(DENOISER_INPUTS, 3), sizes)
    assert list(map(described, graph.output)) == expected(for_layers(DENOISER_OUTPUTS, 3), sizes)
    assert [value.name for value in graph.input][-6:] == [
        *("past_key.0", "past_value.0", "past_key.1", "past_value.1", "past_key.2", "past_value.2")
    ]
    assert {value.type.tensor_type.elem_type for value in graph.output} == {TensorProto.FLOAT, TensorProto.INT64}


def test_predictions_are_the_tables_outputs_but_for_keys_and_values() -> None:
    assert list(Predictions._fields) == [value.name for value in DENOISER_OUTPUTS if not value.per_layer]


def test_generation_asks_the_denoiser_for_what_it_has() -> None:
    assert [value.name for value in generate.function_ir.inputs] == names(GENERATION_INPUTS)
    asked = [value.name for value in denoise.function_ir.inputs]
    assert asked == [name for name in names(DENOISER_INPUTS) if name in asked]
    assert set(RESULTS) < set(names(DENOISER_OUTPUTS))


def test_generation_has_the_tables_inputs_and_outputs(tmp_path: Path) -> None:
    splice(written(tmp_path), tmp_path / "generate.onnx")
    graph = onnx.load(tmp_path / "generate.onnx", load_external_data=False).graph
    assert list(map(described, graph.input)) == expected(GENERATION_INPUTS, {})
    assert list(map(described, graph.output)) == expected(GENERATION_OUTPUTS, {})
