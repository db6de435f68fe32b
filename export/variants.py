"""Writes and judges the variants; every writer returns the variant's fidelity card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from diffutron_ort.checks.verify import LEAST_AGREEMENT
from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check.fidelity import Fp32Baseline, GraphForward, TorchForward, join
from diffutron_ort_export.check.verify import GraphSession, check_reductions, verify_exact
from diffutron_ort_export.graph.network import Decoder, Projection
from diffutron_ort_export.progress import note
from diffutron_ort_export.quantize.fp16 import to_fp16
from diffutron_ort_export.quantize.int8 import Scheme, quantize
from diffutron_ort_export.quantize.sensitivity import TARGET_AGREEMENT, Search, excluded
from diffutron_ort_export.quantize.simulation import products, simulated_fp16

Card = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """The user's options of quantization.

    Attributes:
        exclude: Names or shell patterns of matrices that stay in float32; None finds them by measuring.
        accept: Whether to write a variant that is further from float32 than LEAST_AGREEMENT allows.
    """

    exclude: Sequence[str] | None = None
    accept: bool = False


@dataclass(frozen=True)
class Job:
    """A variant to write.

    Attributes:
        name: The variant's name, for messages.
        path: The path of its graph; the weights go beside it.
        provenance: The graph's metadata.
        baseline: The source, and its predictions at float32.
        options: The user's options of quantization.
    """

    name: str
    path: Path
    provenance: Mapping[str, str]
    baseline: Fp32Baseline
    options: Options = field(default_factory=Options)

    def session(self) -> GraphSession:
        """Return a session that runs the written graph."""
        return GraphSession(self.path, self.baseline.source.shape, self.baseline.source.output_vocabulary)


def write_fp32(job: Job) -> Card:
    """Write float32, which must equal transformers."""
    job.baseline.graph().save(job.path, job.provenance)
    return verify_exact(job.baseline.reference, job.session(), job.name)


def write_fp16(job: Job) -> Card:
    """Write half precision, for CUDA. It is judged in torch, since the CPU provider computes in float32."""
    denoiser = job.baseline.denoiser
    with simulated_fp16(products(denoiser), job.name):
        card = job.baseline.card(TorchForward(denoiser), job.name)
    graph = job.baseline.graph()
    to_fp16(graph)
    graph.save(job.path, job.provenance)
    rows = join(list(job.baseline.rows(checked_forward(job)).values()))
    judge(job, min(card["agreement"], rows.agreement()))
    return card | {"graph_on_cpu": rows.card()}


def write_int8(job: Job) -> Card:
    """Write 8 bits, except for the matrices that are excluded or, by default, those that measuring finds to hurt."""
    matrices = products(job.baseline.denoiser)
    if job.options.exclude is None:
        schemes = searched(job)
    else:
        schemes = excluded(job.options.exclude, list(matrices))
        save_int8(job, schemes)
    left, per_token = (
        sorted(n for n, scheme in schemes.items() if scheme is wanted) for wanted in (Scheme.FLOAT, Scheme.PER_TOKEN)
    )
    extra = sum(saved_bytes(product.module) for name in left for product in matrices[name])
    card = job.baseline.card(checked_forward(job), job.name)
    judge(job, card["agreement"])
    warn_of_exceptions(job, left, per_token, extra)
    return card | {"left_in_float": left, "by_row": per_token, "extra_bytes": extra}


def warn_of_exceptions(job: Job, left: Sequence[str], per_token: Sequence[str], extra: int) -> None:
    """Warn of the matrices that do not have the default scheme, and of what that costs."""
    if left:
        note(f"variant {job.name}: {', '.join(left)} stayed in float32, which adds {extra / 1e6:.1f} MB")
    if per_token:
        note(f"variant {job.name}: {', '.join(per_token)} use per-token activation scales")


def searched(job: Job) -> dict[str, Scheme]:
    """Write the graph with as few exceptions from the default scheme as suffice, and return the exceptions."""
    schemes: dict[str, Scheme] = {}
    if save_int8(job, schemes) >= TARGET_AGREEMENT:
        return schemes
    search = Search(job.baseline)
    count = search.least()
    while save_int8(job, schemes := search.schemes(count)) < TARGET_AGREEMENT and count < search.most:
        count = min(search.most, count + 1 + count // 4)  # the simulation was too optimistic
    return schemes


def save_int8(job: Job, schemes: Mapping[str, Scheme]) -> float:
    """Write the graph with these schemes, and return its agreement with float32."""
    graph = job.baseline.graph()
    quantize(graph, schemes)
    graph.save(job.path, job.provenance)
    return join(list(job.baseline.rows(GraphForward(job.session())).values())).agreement()


def saved_bytes(module: nn.Module) -> int:
    """Return the bytes that 8 bits save in a module: three of each weight's four, less a scale for each column or row.

    The head reads the embedding's weights, but has scales of its own.
    """
    if isinstance(module, Projection):
        return 3 * module.weight.numel() - 4 * module.weight.shape[1]
    if isinstance(module, nn.Embedding):
        return 3 * module.weight.numel() - 4 * module.num_embeddings
    assert isinstance(module, Decoder), "nothing else multiplies"
    return -4 * module.bias.numel()


def checked_forward(job: Job) -> GraphForward:
    """Return the written graph as a model for the engine, after checking its sums against its own logits."""
    session = job.session()
    check_reductions(session, job.name)
    return GraphForward(session)


def judge(job: Job, agreement: float) -> None:
    """Warn if a variant misses the target, and refuse it if it is too far from float32."""
    if agreement < TARGET_AGREEMENT:
        shortfall = (
            f"variant {job.name}: {agreement:.1%} of the clear rows have float32's best token; "
            f"{TARGET_AGREEMENT:.0%} is the target"
        )
        if agreement < LEAST_AGREEMENT and not job.options.accept:
            raise FidelityError(
                f"{shortfall}, {LEAST_AGREEMENT:.0%} the least. Nothing was written; --accept writes it all the same"
            )
        note(f"{shortfall}; the fidelity card has the figures")
