"""The exporter's modules repeat names of the graphs' contract; they are the table's, in its order."""

import inspect

from diffutron_ort.runtime.contract import DENOISER_INPUTS, DENOISER_OUTPUTS, GENERATION_INPUTS, Value
from diffutron_ort_export.graph.generation import denoise, generate
from diffutron_ort_export.graph.network import Denoiser, Prediction
from diffutron_ort_export.graph.splice import RESULTS


def names(values: tuple[Value, ...]) -> list[str]:
    return [value.name for value in values]


def test_the_network_has_the_denoisers_inputs_and_outputs() -> None:
    assert [*inspect.signature(Denoiser.forward).parameters] == ["self", *names(DENOISER_INPUTS)]
    assert list(Prediction._fields) == names(DENOISER_OUTPUTS)


def test_generation_has_its_inputs_and_asks_the_denoiser_for_what_it_has() -> None:
    assert [value.name for value in generate.function_ir.inputs] == names(GENERATION_INPUTS)
    asked = [value.name for value in denoise.function_ir.inputs]
    assert asked == [name for name in names(DENOISER_INPUTS) if name in asked]
    assert names(DENOISER_INPUTS)[2:5] == [name for name in names(DENOISER_INPUTS) if name not in asked]
    assert set(RESULTS) < set(names(DENOISER_OUTPUTS))
