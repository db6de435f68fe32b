"""A model's folder for Triton Inference Server: what Triton reads of it, and what ONNX Runtime makes of it."""

import re

import numpy as np
import onnxruntime
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.cli.main import main
from diffutron_ort.errors import BundleError, DiffutronError, OptionError
from diffutron_ort.runtime.contract import GENERATION_INPUTS, GENERATION_OPTIONS, GENERATION_OUTPUTS
from diffutron_ort.runtime.generation import Generation, stack
from diffutron_ort_export import triton
from tests.bundle.test_load import edit_manifest

QUESTION = "On iki artı beş kaç eder?"
TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32"}


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sent(model, config):
    """What a client sends: arrays of the shapes in config.pbtxt, where a scalar is one value."""
    prompt = model._prompts.canvas(QUESTION, True, config)
    options = {v.name: np.array([getattr(config, v.name)], v.dtype) for v in GENERATION_INPUTS if not v.axes}
    stops = stack([ids for _, ids in model.bundle.stop_sequences])
    return options | {"prompt_ids": prompt.ids[None, : prompt.start], "stop_ids": stops}


def run(folder, inputs):
    """Run the graph as Triton's backend does, which makes a scalar of the one value that it is sent for it."""
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    inputs = {name: value.reshape(()) if name in GENERATION_OPTIONS else value for name, value in inputs.items()}
    return session.run(["ids", "answer_length"], inputs)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_graph_in_the_folder_answers_as_the_bundles(variant, model, tmp_path):
    assert main(["triton", str(model.bundle.folder), str(tmp_path / "made" / "nano"), "--variant", variant]) == 0
    stem = "denoiser" if variant == "fp32" else "denoiser_int8"
    assert files(tmp_path) == [f"made/nano/1/{stem}.onnx.data", "made/nano/1/model.onnx", "made/nano/config.pbtxt"]
    inputs, config = sent(model, model.config()), model.config()
    ids, length = run(tmp_path / "made" / "nano", inputs)
    expected = Generation(model.bundle, variant)(inputs["prompt_ids"][0], config)
    np.testing.assert_array_equal(ids[0], expected.ids)
    start = inputs["prompt_ids"].shape[1]
    assert model.tokenizer.decode(ids[0, start : start + length].tolist()).strip() == "on yedi"


@pytest.mark.triton
def test_triton_reads_the_contract_in_the_configuration(model, tmp_path):
    from google.protobuf import text_format
    from tritonclient.grpc import InferInput, model_config_pb2

    triton.write_model(model.bundle, tmp_path / "nano")
    config = text_format.Parse((tmp_path / "nano" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 0)
    assert [(group.count, group.kind) for group in config.instance_group] == [
        (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    ]
    for found, contract in ((config.input, GENERATION_INPUTS), (config.output, GENERATION_OUTPUTS)):
        said = {row.name: (model_config_pb2.DataType.Name(row.data_type), list(row.dims)) for row in found}
        dims = {row.name: [axis if isinstance(axis, int) else -1 for axis in row.axes] or [1] for row in contract}
        assert said == {row.name: (TYPES[row.dtype], dims[row.name]) for row in contract}
    for name, value in sent(model, model.config()).items():  # whatever the client refuses, Triton would as well
        InferInput(
            name, list(value.shape), {"int64": "INT64", "float32": "FP32"}[str(value.dtype)]
        ).set_data_from_numpy(value)


def test_a_taken_place_is_refused_and_an_empty_folder_is_not(model, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert main(["triton", str(model.bundle.folder), str(tmp_path / "taken")]) == 2
    assert "exists already; give a path that is free" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    triton.write_model(model.bundle, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.pbtxt").exists()
    with pytest.raises(OptionError, match="variant='int3'"):
        triton.write_model(model.bundle, tmp_path / "new", "int3")


@pytest.mark.parametrize("out", ["file/nano", "a\0b", "/dev/null"])
def test_a_place_that_cannot_be_written_gets_one_line(out, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiffutronError, match=re.escape(repr(str(tmp_path / out))) + " (cannot|exists)"):
        triton.write_model(model.bundle, tmp_path / out)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda bundle: (bundle / "onnx" / "denoiser.onnx.data").open("r+b").write(b"x"), "was changed"),
        (lambda bundle: edit_manifest(bundle, lambda m: m["variants"]["fp32"].pop("generate")), "use int8"),
    ],
)
def test_a_damaged_bundle_leaves_nothing(damage, message, broken, tmp_path):
    damage(broken)
    with pytest.raises(BundleError, match=message):
        triton.write_model(load_bundle(broken), tmp_path / "out" / "nano", "fp32")
    assert files(tmp_path / "out") == []
