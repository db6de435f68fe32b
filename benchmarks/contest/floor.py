"""The floor of a pass: how long its products and its attention take alone on this machine, through ONNX Runtime.

Nothing that computes the same products with the same library can take less, so figures over the floor can be compared
between machines. It is measured beside the contenders, in the same rounds.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contest.contenders import BLOCK, FEW, PASS, ROWS, SHORT_PASS, median_of
from diffutron_ort.runtime.cpu import usable_threads

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS, HIDDEN, INNER, VOCAB = 22, 768, 1152, 256_000
PART = 64_000
"""Columns of the head that are timed, which ours computes one part after the other."""
COPIED = 256_000_000
"""Bytes that are copied, more than a cache holds."""
CALLS = 15
"""How many calls a timing is the median of."""
FLOAT = 1
"""float32, as ONNX numbers the types of elements."""


class Product(NamedTuple):
    """[rows, inner] times a matrix [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> int:
        """The number of additions and multiplications."""
        return 2 * self.rows * self.inner * self.columns


def body(tokens: int) -> dict[Product, int]:
    """Return how many products of each shape the layers compute for so many tokens."""
    square, wide, narrow = (Product(tokens, *sizes) for sizes in ((HIDDEN, HIDDEN), (HIDDEN, INNER), (INNER, HIDDEN)))
    return {square: 4 * LAYERS, wide: 2 * LAYERS, narrow: LAYERS}


def head(rows: int) -> dict[Product, int]:
    """Return the products of the head."""
    return {Product(rows, HIDDEN, PART): VOCAB // PART}


def attention(queries: int, keys: int) -> int:
    """Return the number of additions and multiplications of all layers' attention."""
    return 4 * LAYERS * queries * keys * HIDDEN


class Floor:
    """Times the products of a precision, int8 or fp32; attention is in float32 in both."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.measures: dict[str, Callable[[], float]] = {
            "pass": partial(self._pass, PASS, ROWS, PASS),
            "pass cached": partial(self._pass, BLOCK, ROWS, PASS),
            "pass few": partial(self._pass, BLOCK, FEW, SHORT_PASS),
            "rate body": partial(self._rate, Product(PASS, HIDDEN, HIDDEN)),
            "rate head": partial(self._rate, Product(ROWS, HIDDEN, PART)),
            "copy": copy_rate,
        }

    def first(self) -> None:
        """Do nothing: a floor takes no steps."""

    generation = first

    def _pass(self, tokens: int, rows: int, keys: int) -> float:
        """Return the seconds of a pass that computes `tokens`, predicts `rows` and attends to `keys`."""
        products = body(tokens) | head(rows)
        seconds = sum(count * seconds_of(product, self.precision) for product, count in products.items())
        reference = Product(PASS, HIDDEN, HIDDEN)
        return seconds + attention(tokens, keys) * seconds_of(reference, "fp32") / reference.operations

    def _rate(self, product: Product) -> float:
        """Return operations a second of a product."""
        return product.operations / seconds_of(product, self.precision)


def seconds_of(product: Product, precision: str) -> float:
    """Return the seconds that a product of random numbers takes: the median of some calls.

    Its session ends with it, since the threads of another one would go on spinning beside the next product.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_threads()
    session = ort.InferenceSession(graph(product, precision), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((product.rows, product.inner), np.float32)
    return median_of(CALLS, lambda: session.run(None, {"x": x}))


def graph(product: Product, precision: str) -> bytes:
    """Return a model of x [rows, inner] -> y [rows, columns]: in int8 with one scale for x, or in float32."""
    from onnx import helper, numpy_helper

    noise, shape = np.random.default_rng(0), (product.inner, product.columns)
    if precision == "int8":
        constants = {"w": noise.integers(-127, 128, shape, np.int8), "scales": noise.random(shape[1], np.float32)}
    else:
        constants = {"w": noise.standard_normal(shape, np.float32)}
    made = helper.make_graph(
        nodes(precision),
        "product",
        [helper.make_tensor_value_info("x", FLOAT, [product.rows, product.inner])],
        [helper.make_tensor_value_info("y", FLOAT, [product.rows, product.columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return bytes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )


def nodes(precision: str) -> list[Any]:
    """Return the operators of a product, which ONNX Runtime fuses into one."""
    from onnx.helper import make_node

    if precision == "fp32":
        return [make_node("MatMul", ["x", "w"], ["y"])]
    return [
        make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        make_node("MatMulInteger", ["q", "w", "zero"], ["total"]),
        make_node("Cast", ["total"], ["float"], to=FLOAT),
        make_node("Mul", ["scale", "scales"], ["both"]),
        make_node("Mul", ["float", "both"], ["y"]),
    ]


def copy_rate() -> float:
    """Return bytes a second that one thread copies."""
    source = np.zeros(COPIED, np.uint8)
    target = np.ones_like(source)
    return COPIED / median_of(CALLS, lambda: np.copyto(target, source))
