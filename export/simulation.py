"""The network in torch as if its products were made in fewer bits, which ONNX Runtime need not have run for that."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffutron_ort.errors import FidelityError

from .int8 import Form
from .network import TABLE, Denoiser, Projection
from .rewrite import matrix_of

HEAD = matrix_of(TABLE)
"""The table's name; it is the embedding's and the head's."""

Modules = Mapping[str, Sequence[nn.Module]]


def matrices(denoiser: Denoiser) -> dict[str, list[nn.Module]]:
    """The modules that multiply by each matrix, by the matrix's name in the checkpoint."""
    result: dict[str, list[nn.Module]] = {}
    for name, module in denoiser.named_modules():
        if isinstance(module, Projection):
            result.setdefault(matrix_of(name), []).append(module)
    return result | {HEAD: [denoiser.model.embeddings.tok_embeddings, denoiser.decoder]}


@contextlib.contextmanager
def as_int8(modules: Modules, forms: Mapping[str, Form]) -> Iterator[None]:
    """The network as if its matrices were 8-bit in these forms, TENSOR where there is none.

    Weights are rounded to what their int8 and scales stand for, activations to what their form would make of them.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in modules.items():
            if (form := forms.get(name, Form.TENSOR)) is Form.FLOAT:
                continue
            for module in parts:
                stack.callback(module.register_forward_pre_hook(rounding(lambda x, form=form: by_form(x, form))).remove)
                replace_weight(stack, module, lambda w, name=name: by_scales(w, axis=1 if name == HEAD else 0))
        yield


@contextlib.contextmanager
def as_half(modules: Modules, variant: str) -> Iterator[None]:
    """The network as if its products were made in half precision.

    ONNX Runtime's CPU provider has no such products and takes the casts around them away, so it cannot tell what a
    GPU makes of activations.

    Args:
        modules: that multiply, by their matrix's name.
        variant: for errors.

    Raises:
        FidelityError: (while a pass runs) a product is not finite; it names the first matrix whose is not.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in modules.items():
            for module in parts:
                stack.callback(module.register_forward_pre_hook(rounding(to_half)).remove)
                stack.callback(module.register_forward_hook(finite_half(name, variant)).remove)
                replace_weight(stack, module, to_half)
        yield


def replace_weight(stack: contextlib.ExitStack, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Changes a module's own matrix, if it has one, until the stack is left."""
    if isinstance(weight := getattr(module, "weight", None), nn.Parameter):
        stack.callback(setattr, weight, "data", weight.data)
        weight.data = change(weight.data)


def rounding(change: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Any, ...]]:
    """A hook that changes what goes into a product; ids, which go into the embedding, stay."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        x, *others = inputs
        return (change(x) if x.is_floating_point() else x, *others)

    return hook


def finite_half(name: str, variant: str) -> Callable[..., Tensor]:
    """A hook that rounds a product, less the bias that is added to it at float32, and refuses infinite ones."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:  # noqa: ARG001
        bias = getattr(module, "bias", 0)
        product = to_half(result - bias)
        if not product.isfinite().all():
            raise FidelityError(
                f"variant {variant}: the product with {name} overflows half precision, which ends at "
                f"{torch.finfo(torch.half).max:,.0f}. Nothing was written; choose fp32 or int8 for this checkpoint"
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


def by_form(x: Tensor, form: Form) -> Tensor:
    """What the 8-bit activations of a form stand for."""
    if form is Form.ROW:
        step = x.abs().amax(-1, keepdim=True).div(127).clamp(min=1e-30)
        return (x / step).round() * step
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    step = ((high - low) / 255).clamp(min=1e-30)
    zero = (-low / step).round()
    return ((x / step).round() + zero).clamp(0, 255).sub(zero) * step
