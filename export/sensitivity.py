"""Which matrices an 8-bit graph should leave alone: each one's share of the loss, measured in torch.

Quantization is simulated: weights are rounded to what their int8 and scales stand for, activations to what their form
would make of them. A matrix's share is the mean KL divergence, from float32's predictions, of the network in which it
alone is quantized.
"""

import contextlib
import fnmatch
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from diffutron_ort.errors import OptionError

from .fidelity import Rows, TorchForward, Yardstick, join
from .int8 import Form
from .network import Denoiser, Projection
from .passages import PASSAGES
from .rewrite import matrix_of
from .source import TABLE

ENOUGH = 0.98
"""The share of clear rows with float32's best token that a quantized graph should reach."""

GAIN = 4
"""A matrix is quantized a row at a time where that divides its share of the loss by so much, and else left alone."""

HEAD = matrix_of(TABLE)


def matrices(denoiser: Denoiser) -> dict[str, list[nn.Module]]:
    """The modules that multiply by each matrix, by the matrix's name in the checkpoint."""
    result: dict[str, list[nn.Module]] = {}
    for name, module in denoiser.named_modules():
        if isinstance(module, Projection):
            result.setdefault(matrix_of(name), []).append(module)
    return result | {HEAD: [denoiser.model.embeddings.tok_embeddings, denoiser.decoder]}


def excluded(patterns: Sequence[str], names: Sequence[str]) -> dict[str, Form]:
    """FLOAT for every matrix that a pattern (as of a shell) fits.

    Raises:
        OptionError: a pattern fits none.
    """
    forms = {}
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise OptionError(f"exclude {pattern!r}: no matrix has such a name; there are {', '.join(names)}")
        forms |= dict.fromkeys(fitting, Form.FLOAT)
    return forms


class Search:
    """The order in which matrices are taken out of the worst of quantization."""

    def __init__(self, yardstick: Yardstick) -> None:
        self.yardstick = yardstick
        self.modules = matrices(yardstick.denoiser)

    @functools.cached_property
    def ladder(self) -> list[str]:
        """Every matrix, the one that costs most first."""
        return sorted(self.modules, key=lambda name: self._share(name, Form.TENSOR), reverse=True)

    def forms(self, count: int) -> dict[str, Form]:
        """The forms after the first `count` of the ladder's matrices were changed."""
        return {name: self._better(name) for name in self.ladder[:count]}

    def least(self, start: int = 0) -> int:
        """How many matrices have to be changed until the simulated graph is close enough; all, if none suffices."""
        low, high = start, len(self.ladder)
        while low < high:
            middle = (low + high) // 2
            if self._rows(self.forms(middle)).agreement() >= ENOUGH:
                high = middle
            else:
                low = middle + 1
        return low

    def _rows(self, forms: Mapping[str, Form], every: int = 1) -> Rows:
        """The simulated graph's rows against float32's; a matrix without a form is quantized by TENSOR."""
        forward = TorchForward(self.yardstick.denoiser)
        with simulated(self.modules, forms):
            return join(list(self.yardstick.rows(forward, every).values()))

    @functools.cache  # noqa: B019  # lives as long as an export
    def _better(self, name: str) -> Form:
        return Form.ROW if self._share(name, Form.ROW) * GAIN <= self._share(name, Form.TENSOR) else Form.FLOAT

    @functools.cache  # noqa: B019
    def _share(self, name: str, form: Form) -> float:
        """A matrix's share of the loss, on one passage in each ratio."""
        others = dict.fromkeys(self.modules, Form.FLOAT)
        share = float(self._rows(others | {name: form}, every=len(PASSAGES)).kl.mean())
        return share if np.isfinite(share) else float("inf")


@contextlib.contextmanager
def simulated(modules: Mapping[str, Sequence[nn.Module]], forms: Mapping[str, Form]) -> Iterator[None]:
    """The network as if its matrices were quantized in these forms, TENSOR where there is none."""
    kept: list[tuple[nn.Module, Tensor]] = []
    hooks = []
    for name, parts in modules.items():
        if (form := forms.get(name, Form.TENSOR)) is Form.FLOAT:
            continue
        for module in parts:
            hooks.append(module.register_forward_pre_hook(rounding(form)))
            if hasattr(module, "weight"):
                kept.append((module, module.weight.data))
                module.weight.data = rounded(module.weight.data, axis=1 if name == HEAD else 0)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, weight in kept:
            module.weight.data = weight


def rounded(weight: Tensor, axis: int) -> Tensor:
    """What the int8 of a matrix and its scales stand for."""
    scales = weight.abs().amax(axis, keepdim=True).div(127).clamp(min=1e-30)
    return (weight / scales).round() * scales


def rounding(form: Form) -> Callable[..., tuple[Tensor, ...]]:
    """A hook that rounds what goes into a product; ids, which go into the embedding, stay."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        x, *others = inputs
        return (by_form(x, form) if x.is_floating_point() else x, *others)

    return hook


def by_form(x: Tensor, form: Form) -> Tensor:
    """What the 8-bit activations of a form stand for."""
    if form is Form.ROW:
        step = x.abs().amax(-1, keepdim=True).div(127).clamp(min=1e-30)
        return (x / step).round() * step
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    step = ((high - low) / 255).clamp(min=1e-30)
    zero = (-low / step).round()
    return ((x / step).round() + zero).clamp(0, 255).sub(zero) * step
