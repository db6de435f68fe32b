"""The graphs' contract has one table; whatever repeats its names, types or axes is compared with it here."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime import contract
from diffutron_ort.runtime.contract import PassInput, Past, Predictions
from diffutron_ort.runtime.generation import Generated
from diffutron_ort.runtime.kv_cache import LayerKV

TABLES = {
    "denoiser": (contract.DENOISER_INPUTS, contract.DENOISER_OUTPUTS),
    "generation": (contract.GENERATION_INPUTS, contract.GENERATION_OUTPUTS),
}
ROWS = [value for tables in TABLES.values() for table in tables for value in table]


def names(values):
    return [value.name for value in values]


def field_names(kind):
    return [field.name for field in fields(kind)]


@pytest.mark.parametrize("value", ROWS, ids=lambda value: value.name)
def test_a_row_says_all_of_itself(value):
    assert np.dtype(value.dtype).name == value.dtype
    assert value.meaning
    assert "|" not in value.meaning, "it would break a table in Markdown"


def test_the_names_by_hand():
    assert contract.OWN_INPUTS == (
        "input_ids",
        "position_ids",
        "rows",
        "seen_ids",
        "suppress_ids",
        "repetition_penalty",
        "temperature",
        "target_ids",
        "want_logits",
        "want_entropy",
    )
    assert contract.REDUCTIONS == ("top_ids", "top_logits", "rest", "rest_tempered", "entropy")
    assert set(contract.GENERATION_OPTIONS) < set(field_names(GenerationConfig))


def test_a_pass_input_has_the_denoisers_inputs():
    assert field_names(PassInput) == [*contract.OWN_INPUTS, "past", "return_kv"]
    past = [value for value in contract.DENOISER_INPUTS if "past" in value.axes]
    assert names(past) == [f"past_{name}" for name in (field_names(Past)[0], *LayerKV._fields)]
    assert names(value for value in past if value.per_layer) == names(past[1:])


def test_predictions_have_the_denoisers_outputs():
    kept = [value.name for value in contract.DENOISER_OUTPUTS if value.per_layer]
    assert tuple(kept) == LayerKV._fields
    assert field_names(Predictions) == [n for n in names(contract.DENOISER_OUTPUTS) if n not in kept] + ["kv_caches"]


def test_the_values_of_a_layer_stand_together():
    inputs = contract.for_layers(contract.DENOISER_INPUTS, 2)
    assert names(inputs)[-4:] == ["past_key.0", "past_value.0", "past_key.1", "past_value.1"]
    assert names(inputs)[:-4] == [value.name for value in contract.DENOISER_INPUTS if not value.per_layer]
    assert not any(value.per_layer for value in inputs)


def test_generated_has_the_generation_graphs_outputs():
    assert list(Generated._fields) == names(contract.GENERATION_OUTPUTS)


@pytest.mark.exporter
@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("which", TABLES)
def test_nanos_graphs_are_as_the_table_says(variant, which):
    """Names, types, and axes: dynamic ones have the table's names, the model's have sizes."""
    import onnx  # of the extra [export]

    bundle = load_bundle()
    files = bundle.variants[variant]
    path = bundle.folder / (files.graph if which == "denoiser" else files.generate)
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {"hidden": bundle.hidden_size, "k": 64, "columns": bundle.columns}
    assert set(sizes) == set(contract.MODEL_AXES)
    for rows, values in zip(TABLES[which], (graph.input, graph.output), strict=True):
        table = contract.for_layers(rows, bundle.layers)
        assert names(table) == names(values)
        for row, value in zip(table, values, strict=True):
            tensor = value.type.tensor_type
            assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) == row.dtype
            axes = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
            assert axes == [sizes.get(axis, axis) for axis in row.axes]


def test_the_table_needs_little_to_be_read():
    """Exporters, documents and generators read it where ONNX Runtime may be missing."""
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(Path(inspect.getfile(contract)).read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"collections.abc", "dataclasses", "typing", "numpy", "numpy.typing", "diffutron_ort.types"}
