"""The file of a graph's weights, written tensor by tensor."""

import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ALIGNMENT = 64
"""The bytes that every tensor begins at a multiple of, as wide as a vector register and a line of the cache."""


class WeightsFile:
    """Writes tensors one after another, and makes a graph's values read them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def store(self, value: ir.Value, rows: Iterable[NDArray[np.generic]]) -> int:
        """Write the arrays, one after another, as a value's tensor, and return where it begins."""
        begins = self.write(rows)
        self.read(value, begins)
        assert value.const_value is not None, "it has just been given one"
        assert value.const_value.nbytes == self._file.tell() - begins, "the arrays are the value's tensor"
        return begins

    def write(self, rows: Iterable[NDArray[np.generic]]) -> int:
        """Write the arrays, one after another, and return where the first begins."""
        self._file.seek(-self._file.tell() % ALIGNMENT, 1)
        begins = self._file.tell()
        for array in rows:
            self._file.write(np.ascontiguousarray(array).data)
        return begins

    def read(self, value: ir.Value, begins: int) -> None:
        """Make a value read the file from a byte on."""
        dtype, shape = spec(value)
        length = math.prod(shape.numpy()) * int(dtype.itemsize)
        value.const_value = ir.ExternalTensor(
            self._path.name, begins, length, dtype, shape=shape, name=value.name or "", base_dir=self._path.parent
        )


def spec(value: ir.Value) -> tuple[ir.DataType, ir.Shape]:
    """Return a parameter's element type and shape."""
    assert value.dtype is not None, "a parameter has a type"
    assert value.shape is not None, "a parameter has a shape"
    return value.dtype, value.shape
