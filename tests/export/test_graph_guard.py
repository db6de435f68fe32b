"""The guard of graphs against onnx: what our exporter writes passes, and what passes holds nothing else."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, helper

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import BundleError
from diffutron_ort.runtime.graph_guard import DENOISER, GENERATION, Kind, Weights, check_graph, check_graphs
from diffutron_ort_export import export
from tests.conftest import GOLDEN
from tests.runtime.test_graph_guard import real

BUNDLE = load_bundle()
WEIGHTS = Weights("denoiser.onnx.data", BUNDLE.files["onnx/denoiser.onnx.data"].size)
Change = Callable[[onnx.ModelProto], None]


def outside(location: str = "/etc/passwd", name: str = "w") -> TensorProto:
    """A tensor whose data lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def constant(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **attributes)


def graph(*nodes: onnx.NodeProto, initializers: list[TensorProto] | None = None) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "inner", [], [], initializer=initializers)


def sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=outside(), indices=outside(), dims=[4])


def function(*nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("ours", "f", [], ["c"], list(nodes), [helper.make_opsetid("", 23)])


def branch(model: onnx.ModelProto, inner: onnx.GraphProto) -> None:
    model.graph.node.add(op_type="If", attribute=[helper.make_attribute("then_branch", inner)])


def loop_body(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(a.g for node in model.graph.node if node.op_type == "Loop" for a in node.attribute if a.name == "body")


CHANGES: dict[str, Change] = {
    "initializer": lambda m: m.graph.initializer.append(outside()),
    "initializer of another's file": lambda m: m.graph.initializer.append(outside("denoiser_int8.onnx.data")),
    "the location of one that was there": lambda m: next(
        t for t in m.graph.initializer if t.external_data
    ).external_data.add(key="location", value="../x"),
    "attribute": lambda m: m.graph.node.append(constant(value=outside())),
    "attribute of several": lambda m: m.graph.node.append(constant(value=[outside()])),
    "sparse initializer": lambda m: m.graph.sparse_initializer.append(sparse()),
    "sparse attribute": lambda m: m.graph.node.append(constant(sparse_value=sparse())),
    "sparse attribute of several": lambda m: m.graph.node.append(constant(value=[sparse()])),
    "initializer of a branch": lambda m: branch(m, graph(initializers=[outside()])),
    "attribute of a branch": lambda m: branch(m, graph(constant(value=outside()))),
    "function": lambda m: m.functions.append(function(constant(value=outside()))),
    "function that reads nothing": lambda m: m.functions.append(function(constant(value_float=1.0))),
    "training": lambda m: m.training_info.add(algorithm=graph(initializers=[outside()])),
    "operator": lambda m: m.graph.node.append(helper.make_node("RandomNormal", [], ["c"], shape=[1])),
    "domain": lambda m: m.graph.node.append(helper.make_node("Attention", [], ["c"], domain="com.microsoft")),
    "imported domain": lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
    "overload": lambda m: setattr(m.graph.node[0], "overload", "x"),
    "annotation": lambda m: m.graph.quantization_annotation.add(tensor_name="x"),
    "device": lambda m: m.graph.node[0].device_configurations.add(configuration_id="x"),
    "type of a sequence": lambda m: m.graph.output.append(
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1])
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["fp32", "fp32 generation"])
def test_what_others_can_write_is_refused(name: str, change: Change) -> None:
    content, kind, weights = real(name)
    model = onnx.load_from_string(content)
    check_graph(model.SerializeToString(), kind, weights)
    change(model)
    with pytest.raises(BundleError, match=f"is not a {kind.name} as this package exports it"):
        check_graph(model.SerializeToString(), kind, weights)


def test_the_body_of_the_loop_is_looked_into() -> None:
    content, kind, weights = real("fp32 generation")
    for change in (
        lambda body: body.initializer.append(outside()),
        lambda body: body.node.append(constant(value=outside())),
        lambda body: body.node.append(helper.make_node("If", [], [], then_branch=graph(initializers=[outside()]))),
    ):
        model = onnx.load_from_string(content)
        change(loop_body(model))
        with pytest.raises(BundleError, match="reads the file '/etc/passwd'"):
            check_graph(model.SerializeToString(), kind, weights)


def test_two_files_one_after_the_other_are_one_to_protobuf_and_refused() -> None:
    """A parser merges them."""
    content, kind, weights = real("fp32")
    for second in (onnx.ModelProto(graph=graph(initializers=[outside()])), onnx.ModelProto(ir_version=10)):
        merged = content + second.SerializeToString()
        assert onnx.load_from_string(merged)
        with pytest.raises(BundleError, match="twice|reads the file"):
            check_graph(merged, kind, weights)


def messages(message: Message) -> Iterator[Message]:
    """A message and all in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from messages(inner)


def foreign(content: bytes, kind: Kind, weights: Weights) -> list[str]:
    """What an independent reading finds in a graph that should not be there."""
    found = []
    for message in messages(onnx.load_from_string(content)):
        if isinstance(message, TensorProto):
            said = [(entry.key, entry.value) for entry in message.external_data]
            found += [v for k, v in said if k == "location" and v != weights.location]
            found += [k for k, _ in said if k not in ("location", "offset", "length")]
        if isinstance(message, onnx.NodeProto) and message.op_type.encode() not in kind.operators:
            found.append(message.op_type)
        if isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto) and message.domain:
            found.append(message.domain)
        if isinstance(message, onnx.FunctionProto | onnx.TrainingInfoProto | onnx.SparseTensorProto):
            found.append(type(message).__name__)
    return found


def mutants(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """The content with bytes changed, most of them where a graph says what it reads and does."""
    telling = [i for word in (b"location", b"denoiser", b"Gather", b"MatMul") for i in places(content, word)]
    while True:
        mutant = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            at = rng.choice(telling) + rng.randint(-4, 30) if rng.random() < 0.7 else rng.randrange(len(content))
            at = min(at, len(mutant) - 1)
            kind = rng.random()
            if kind < 0.6:
                mutant[at] = rng.randrange(256) if kind < 0.3 else mutant[at] ^ (1 << rng.randrange(8))
            elif kind < 0.8:
                start = rng.choice(telling)
                mutant[at:at] = content[start - 2 : start + rng.randint(0, 60)]
            else:
                del mutant[at : at + rng.randint(1, 8)]
        yield bytes(mutant)


def places(content: bytes, word: bytes) -> Iterator[int]:
    at = content.find(word)
    while at >= 0:
        yield at
        at = content.find(word, at + 1)


@pytest.mark.parametrize("name", ["fp32", "fp32 generation"])
def test_mutants_that_pass_hold_nothing_foreign(name: str) -> None:
    content, kind, weights = real(name)
    passed = 0
    for mutant, _ in zip(mutants(content, random.Random(7)), range(400), strict=False):
        try:
            check_graph(mutant, kind, weights)
        except BundleError:
            continue
        try:
            assert foreign(mutant, kind, weights) == []
            passed += 1
        except DecodeError:  # a text that is no UTF-8, which ONNX Runtime refuses then
            pass
    assert passed > 20
    assert foreign(content.replace(b"denoiser.onnx.data", b"../../etc/hostname", 1), kind, weights)


def test_every_variant_passes_also_with_an_output_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "pieces.json").write_text(str([*range(5, 90), *range(100, 250, 3)]))
    options: Any = {"output_vocabulary": tmp_path / "pieces.json", "exclude": [], "accept": True}
    export(GOLDEN / "tiny" / "checkpoint", tmp_path / "b", variants=["fp32", "int8", "fp16"], **options)
    assert check_graphs(load_bundle(tmp_path / "b")) == 6


@pytest.mark.torch
def test_verify_against_torch_opens_nothing_unchecked(broken: Path) -> None:
    from diffutron_ort_export.check.against import against_torch

    path = broken / "onnx" / "denoiser.onnx"
    path.write_bytes(path.read_bytes().replace(b"denoiser.onnx.data", b"../../etc/hostname", 1))
    bundle = replace(BUNDLE, folder=broken)
    with pytest.raises(BundleError, match="reads the file"):
        next(against_torch(bundle, str(BUNDLE.folder / "checkpoint"), revision=None, adapter=None))


@pytest.mark.parametrize("kind", [DENOISER, GENERATION])
def test_the_tables_rows_are_operators_of_onnx(kind: Kind) -> None:
    there = {schema.name.encode() for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert kind.operators <= there
