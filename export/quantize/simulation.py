"""The network in torch as if its products were made in fewer bits, which ONNX Runtime need not have run for that."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffutron_ort.errors import FidelityError
from diffutron_ort_export.checkpoint.layout import TABLE
from diffutron_ort_export.graph.network import Denoiser, Projection
from diffutron_ort_export.graph.rewrite import matrix_of
from diffutron_ort_export.quantize.int8 import Scheme
from diffutron_ort_export.recipes import runnable

HEAD = matrix_of(TABLE)
"""The table's name; it is the embedding's and the head's."""


class Product(NamedTuple):
    """A module that multiplies, and what it multiplies by, unless another one of the same matrix has that already."""

    module: nn.Module
    weight: Tensor | None


Products = Mapping[str, Sequence[Product]]


def products(denoiser: Denoiser) -> dict[str, list[Product]]:
    """What multiplies by each matrix, by the matrix's name in the checkpoint."""
    result: dict[str, list[Product]] = {}
    for name, module in denoiser.named_modules():
        if isinstance(module, Projection):
            result.setdefault(matrix_of(name), []).append(Product(module, module.weight))
    embedding = denoiser.model.embeddings.tok_embeddings
    own = None if denoiser.pieces is None else denoiser.head_table
    return result | {HEAD: [Product(embedding, embedding.weight), Product(denoiser.decoder, own)]}


@contextlib.contextmanager
def simulated_int8(matrices: Products, schemes: Mapping[str, Scheme]) -> Iterator[None]:
    """The network as if its matrices were 8-bit in these schemes, TENSOR where there is none.

    Weights are rounded to what their int8 and scales stand for, activations to what their scheme would make of them.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in matrices.items():
            if (scheme := schemes.get(name, Scheme.PER_TENSOR)) is Scheme.FLOAT:
                continue
            for module, weight in parts:
                stack.callback(module.register_forward_pre_hook(rounding(partial(by_form, scheme=scheme))).remove)
                change(stack, weight, partial(by_scales, axis=1 if name == HEAD else 0))
        yield


@contextlib.contextmanager
def simulated_fp16(matrices: Products, variant: str) -> Iterator[None]:
    """The network as if its products were made in half precision.

    ONNX Runtime's CPU provider has no such products and takes the casts around them away, so it cannot tell what a
    GPU makes of activations.

    Args:
        matrices: what multiplies by each.
        variant: for errors.

    Raises:
        FidelityError: (while a pass runs) a product is not finite; it names the first matrix whose is not.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in matrices.items():
            for module, weight in parts:
                stack.callback(module.register_forward_pre_hook(rounding(to_half)).remove)
                stack.callback(module.register_forward_hook(finite_half(name, variant)).remove)
                change(stack, weight, to_half)
        yield


def change(stack: contextlib.ExitStack, weight: Tensor | None, by: Callable[[Tensor], Tensor]) -> None:
    """Changes a weight, if there is one, until the stack is left."""
    if weight is not None:
        stack.callback(setattr, weight, "data", weight.data)
        weight.data = by(weight.data)


def rounding(by: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Any, ...]]:
    """A hook that changes what goes into a product; ids, which go into the embedding, stay."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        x, *others = inputs
        return (by(x) if x.is_floating_point() else x, *others)

    return hook


def finite_half(name: str, variant: str) -> Callable[..., Tensor]:
    """A hook that rounds a product, less the bias that is added to it at float32, and refuses infinite ones."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:  # noqa: ARG001
        bias = getattr(module, "bias", 0)
        product = to_half(result - bias)
        if not product.isfinite().all():
            raise FidelityError(
                f"variant {variant}: the product with {name} overflows half precision, which ends at "
                f"{torch.finfo(torch.half).max:,.0f}. Nothing was written; choose {runnable(but=variant)} for this "
                "checkpoint"
            )
        return product + bias

    return hook


def to_half(x: Tensor) -> Tensor:
    """What is left of a tensor in half precision."""
    return x.half().float()


def by_scales(weight: Tensor, axis: int) -> Tensor:
    """What the int8 of a matrix and its scales stand for."""
    scales = weight.abs().amax(axis, keepdim=True).div(127).clamp(min=1e-30)
    return (weight / scales).round() * scales


def by_form(x: Tensor, scheme: Scheme) -> Tensor:
    """What the 8-bit activations of a scheme stand for."""
    if scheme is Scheme.PER_TOKEN:
        step = x.abs().amax(-1, keepdim=True).div(127).clamp(min=1e-30)
        return (x / step).round() * step
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    step = ((high - low) / 255).clamp(min=1e-30)
    zero = (-low / step).round()
    return ((x / step).round() + zero).clamp(0, 255).sub(zero) * step
