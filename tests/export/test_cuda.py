"""What can be shown of CUDA without a GPU: every operator of the float graphs has a kernel there."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from diffutron_ort_export import export
from tests.conftest import GOLDEN

# ONNX Runtime, docs/OperatorKernels.md, "Operators implemented by CUDAExecutionProvider", at opset 23 and for the types
# that the graphs use. `Range` and `Shape` compute sizes, on whichever side.
KERNELS = {
    *("Abs", "Add", "And", "Attention", "Cast", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum", "Div", "Equal"),
    *("Exp", "Expand", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "Identity"),
    *("If", "LayerNormalization", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Mul", "Not", "Range", "Reciprocal"),
    *("ReduceMax", "ReduceSum", "Reshape", "RotaryEmbedding", "ScatterElements", "Shape", "Sin", "Slice", "Softmax"),
    *("Squeeze", "Sub", "TopK", "Unsqueeze", "Where"),
}


def operators(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the operators of a graph and of its branches."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            yield from operators(attribute.g)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "ids").write_text(" ".join(map(str, range(0, 512, 2))))
    checkpoint = GOLDEN / "tiny" / "checkpoint"
    export(checkpoint, folder / "whole", variants=("fp16", "fp32"))
    export(checkpoint, folder / "part", variants=("fp16", "fp32"), output_vocabulary=folder / "ids")
    return folder


@pytest.mark.parametrize("folder", ["whole", "part"])
@pytest.mark.parametrize("name", ["denoiser.onnx", "denoiser_fp16.onnx"])
def test_every_operator_has_a_kernel(bundle: Path, folder: str, name: str) -> None:
    graph = onnx.load(bundle / folder / "onnx" / name, load_external_data=False).graph
    assert set(operators(graph)) <= KERNELS
