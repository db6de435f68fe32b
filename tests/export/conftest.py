"""A checkpoint to alter, and the exported graph in ONNX Runtime."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes  # noqa: F401  # teaches numpy the name bfloat16
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from diffutron_ort_export.checkpoint.architecture import read_shape
from tests.conftest import GOLDEN

if TYPE_CHECKING:
    from diffutron_ort_export.check.session import Outputs

TINY = GOLDEN / "tiny"
Run = Callable[..., "Outputs"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint."""
    return Path(shutil.copytree(TINY / "checkpoint", tmp_path / "checkpoint"))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of the tiny adapter."""
    return Path(shutil.copytree(TINY / "adapter", tmp_path / "adapter"))


@pytest.fixture(scope="session")
def run(tiny_bundle: Path) -> Run:
    """Runs the exported graph; see `GraphSession.run`."""
    from diffutron_ort_export.check.session import GraphSession

    shape = read_shape(json.loads((tiny_bundle / "config.json").read_text()))
    return GraphSession(tiny_bundle / "onnx" / "denoiser.onnx", shape).run


def edit_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON object; None takes the key out."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None or k not in changes}))


def edit_tensors(path: Path, change: Callable[[dict[str, NDArray[Any]]], object]) -> None:
    """Has `change` alter the tensors of a safetensors file in place."""
    tensors = {name: np.array(tensor) for name, tensor in load_file(path).items()}
    change(tensors)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"format": "pt"})


def whole(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inputs of a pass over one sequence [seq] that asks for all its rows."""
    return ids[None], np.arange(ids.size)[None], np.arange(ids.size)
