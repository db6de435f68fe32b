"""How each variant of a source is made and judged; every function returns the variant's fidelity card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from diffutron_ort.errors import FidelityError

from .fidelity import GraphForward, Yardstick, join
from .half import halve
from .int8 import Form, quantize
from .progress import note
from .sensitivity import ENOUGH, Search, excluded, matrices
from .verify import Session, check_reductions, verify

LEAST = 0.9
"""The share of clear rows with float32's best token below which a variant is refused."""

Card = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a user says of quantization.

    Attributes:
        exclude: names, or patterns as of a shell, of matrices to leave in float32; None finds them by measuring.
        accept: whether a variant is written that is further from float32 than LEAST allows.
    """

    exclude: Sequence[str] | None = None
    accept: bool = False


@dataclass(frozen=True)
class Job:
    """A variant to write.

    Attributes:
        path: of its graph; the weights go beside it.
        provenance: goes into the graph's metadata.
        yardstick: the source, and what float32 makes of it.
        options: of quantization.
    """

    path: Path
    provenance: Mapping[str, str]
    yardstick: Yardstick
    options: Options = field(default_factory=Options)

    def session(self) -> Session:
        """The graph that was written, running."""
        return Session(self.path, self.yardstick.source.shape)


def write_fp32(job: Job) -> Card:
    """Float32: equal to transformers, or an error."""
    job.yardstick.graph().save(job.path, job.provenance)
    return verify(job.yardstick.reference, job.session(), "fp32")


def write_fp16(job: Job) -> Card:
    """Half precision, for CUDA."""
    graph = job.yardstick.graph()
    halve(graph)
    graph.save(job.path, job.provenance)
    return judged(job, "fp16")


def write_int8(job: Job) -> Card:
    """8-bit, but for the matrices that --exclude names or, without it, those that are found to hurt."""
    modules = matrices(job.yardstick.denoiser)
    if job.options.exclude is None:
        forms = searched(job)
    else:
        forms = excluded(job.options.exclude, list(modules))
        save_int8(job, forms)
    float_ = sorted(name for name, form in forms.items() if form is Form.FLOAT)
    changes = {
        "left_in_float": float_,
        "by_row": sorted(name for name, form in forms.items() if form is Form.ROW),
        "extra_bytes": 3 * sum(part.numel() for name in float_ for module in modules[name] for part in weights(module)),
    }
    return judged(job, "int8") | changes


def searched(job: Job) -> dict[str, Form]:
    """Writes the graph with as few matrices as need be taken out of the plain form, and says which."""
    forms: dict[str, Form] = {}
    if save_int8(job, forms) >= ENOUGH:
        return forms
    search = Search(job.yardstick)
    count, most = search.least(1), len(search.ladder)
    while save_int8(job, forms := search.forms(count)) < ENOUGH and count < most:
        count = min(most, count + 1 + count // 4)  # the simulation was too kind
    return forms


def save_int8(job: Job, forms: Mapping[str, Form]) -> float:
    """Writes the graph with these forms, and returns the share of clear rows with float32's best token."""
    graph = job.yardstick.graph()
    quantize(graph, forms)
    graph.save(job.path, job.provenance)
    return join(list(job.yardstick.rows(GraphForward(job.session())).values())).agreement()


def weights(module: nn.Module) -> list[nn.Parameter]:
    """A module's own matrix."""
    return [parameter for name, parameter in module.named_parameters(recurse=False) if name == "weight"]


def judged(job: Job, name: str) -> Card:
    """The card of a variant that was written; a miss is told, and what is too far from float32 is refused."""
    session = job.session()
    check_reductions(session, name)
    card = job.yardstick.card(GraphForward(session))
    agreement = card["agreement"]
    if agreement < ENOUGH:
        said = f"variant {name}: {agreement:.1%} of the clear rows have float32's best token; {ENOUGH:.0%} is the aim"
        if agreement < LEAST and not job.options.accept:
            raise FidelityError(f"{said}, {LEAST:.0%} the least. Nothing was written; --accept writes it all the same")
        note(f"{said}; the fidelity card has the figures")
    return card
