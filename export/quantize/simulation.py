"""Fake quantization of the network in torch, so that sensitivity is measured without exporting a graph."""

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
"""The table's name as a matrix; embedding and head share it."""


class Product(NamedTuple):
    """A module that multiplies, and its weight, unless another module of the same matrix holds that."""

    module: nn.Module
    weight: Tensor | None


Products = Mapping[str, Sequence[Product]]


def products(denoiser: Denoiser) -> dict[str, list[Product]]:
    """Return the modules that multiply by each matrix, by the matrix's name in the checkpoint."""
    result: dict[str, list[Product]] = {}
    for name, module in denoiser.named_modules():
        if isinstance(module, Projection):
            result.setdefault(matrix_of(name), []).append(Product(module, module.weight))
    embedding = denoiser.model.embeddings.tok_embeddings
    own = None if denoiser.pieces is None else denoiser.head_table
    return result | {HEAD: [Product(embedding, embedding.weight), Product(denoiser.decoder, own)]}


@contextlib.contextmanager
def simulated_int8(matrices: Products, schemes: Mapping[str, Scheme]) -> Iterator[None]:
    """Simulate 8-bit products with these schemes, per tensor for a matrix without one.

    Weights and activations are rounded to the values that their integers and scales represent.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in matrices.items():
            if (scheme := schemes.get(name, Scheme.PER_TENSOR)) is Scheme.FLOAT:
                continue
            for module, weight in parts:
                stack.callback(
                    module.register_forward_pre_hook(rounding(partial(fake_quantized, scheme=scheme))).remove
                )
                change(stack, weight, partial(dequantized, axis=1 if name == HEAD else 0))
        yield


@contextlib.contextmanager
def simulated_fp16(matrices: Products, variant: str) -> Iterator[None]:
    """Simulate products in half precision.

    ONNX Runtime's CPU provider has no such products and removes the casts around them, so it cannot show how a GPU
    rounds activations.

    Args:
        matrices: The modules that multiply by each matrix.
        variant: The variant's name, for errors.

    Raises:
        FidelityError: A product is not finite (raised while a pass runs); the message names the matrix.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in matrices.items():
            for module, weight in parts:
                stack.callback(module.register_forward_pre_hook(rounding(rounded_fp16)).remove)
                stack.callback(module.register_forward_hook(finite_fp16(name, variant)).remove)
                change(stack, weight, rounded_fp16)
        yield


def change(stack: contextlib.ExitStack, weight: Tensor | None, by: Callable[[Tensor], Tensor]) -> None:
    """Replace a weight, if there is one, until the stack is closed."""
    if weight is not None:
        stack.callback(setattr, weight, "data", weight.data)
        weight.data = by(weight.data)


def rounding(by: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Any, ...]]:
    """Return a hook that rounds the input of a product; the embedding's ids stay."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        x, *others = inputs
        return (by(x) if x.is_floating_point() else x, *others)

    return hook


def finite_fp16(name: str, variant: str) -> Callable[..., Tensor]:
    """Return a hook that rounds a product without its float32 bias, and refuses one that is not finite."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:  # noqa: ARG001
        bias = getattr(module, "bias", 0)
        product = rounded_fp16(result - bias)
        if not product.isfinite().all():
            raise FidelityError(
                f"variant {variant}: the product with {name} overflows half precision, which ends at "
                f"{torch.finfo(torch.half).max:,.0f}. Nothing was written; choose {runnable(but=variant)} for this "
                "checkpoint"
            )
        return product + bias

    return hook


def rounded_fp16(x: Tensor) -> Tensor:
    """Return a tensor rounded to half precision."""
    return x.half().float()


def dequantized(weight: Tensor, axis: int) -> Tensor:
    """Return the values that a matrix's int8 and scales represent."""
    scales = weight.abs().amax(axis, keepdim=True).div(127).clamp(min=1e-30)
    return (weight / scales).round() * scales


def fake_quantized(x: Tensor, scheme: Scheme) -> Tensor:
    """Return the values that the 8-bit activations of a scheme represent."""
    if scheme is Scheme.PER_TOKEN:
        step = x.abs().amax(-1, keepdim=True).div(127).clamp(min=1e-30)
        return (x / step).round() * step
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    step = ((high - low) / 255).clamp(min=1e-30)
    zero = (-low / step).round()
    return ((x / step).round() + zero).clamp(0, 255).sub(zero) * step
