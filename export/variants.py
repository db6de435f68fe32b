"""How each variant of a source is made and judged; every function returns the variant's fidelity card."""

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
from diffutron_ort_export.quantize.sensitivity import ENOUGH, Search, excluded
from diffutron_ort_export.quantize.simulation import products, simulated_fp16

Card = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a user says of quantization.

    Attributes:
        exclude: names, or patterns as of a shell, of matrices to leave in float32; None finds them by measuring.
        accept: whether a variant is written that is further from float32 than LEAST_AGREEMENT allows.
    """

    exclude: Sequence[str] | None = None
    accept: bool = False


@dataclass(frozen=True)
class Job:
    """A variant to write.

    Attributes:
        name: the variant's, for messages.
        path: of its graph; the weights go beside it.
        provenance: goes into the graph's metadata.
        baseline: the source, and what float32 makes of it.
        options: of quantization.
    """

    name: str
    path: Path
    provenance: Mapping[str, str]
    baseline: Fp32Baseline
    options: Options = field(default_factory=Options)

    def session(self) -> GraphSession:
        """The graph that was written, running."""
        return GraphSession(self.path, self.baseline.source.shape, self.baseline.source.output_vocabulary)


def write_fp32(job: Job) -> Card:
    """Float32: equal to transformers, or an error."""
    job.baseline.graph().save(job.path, job.provenance)
    return verify_exact(job.baseline.reference, job.session(), job.name)


def write_fp16(job: Job) -> Card:
    """Half precision, for CUDA; judged in torch, since the CPU provider computes in float32 what is half here."""
    denoiser = job.baseline.denoiser
    with simulated_fp16(products(denoiser), job.name):
        card = job.baseline.card(TorchForward(denoiser), job.name)
    graph = job.baseline.graph()
    to_fp16(graph)
    graph.save(job.path, job.provenance)
    rows = join(list(job.baseline.rows(checked(job)).values()))
    judge(job, min(card["agreement"], rows.agreement()))
    return card | {"graph_on_cpu": rows.card()}


def write_int8(job: Job) -> Card:
    """8-bit, but for the matrices that --exclude names or, without it, those that are found to hurt."""
    matrices = products(job.baseline.denoiser)
    if job.options.exclude is None:
        schemes = searched(job)
    else:
        schemes = excluded(job.options.exclude, list(matrices))
        save_int8(job, schemes)
    left, by_row = (
        sorted(n for n, scheme in schemes.items() if scheme is wanted) for wanted in (Scheme.FLOAT, Scheme.PER_TOKEN)
    )
    extra = sum(saved_bytes(product.module) for name in left for product in matrices[name])
    card = job.baseline.card(checked(job), job.name)
    judge(job, card["agreement"])
    tell(job, left, by_row, extra)
    return card | {"left_in_float": left, "by_row": by_row, "extra_bytes": extra}


def tell(job: Job, left: Sequence[str], by_row: Sequence[str], extra: int) -> None:
    """Says which matrices are not of the plain 8-bit scheme, and what that costs."""
    if left:
        note(f"variant {job.name}: {', '.join(left)} stayed in float32, which adds {extra / 1e6:.1f} MB")
    if by_row:
        note(f"variant {job.name}: {', '.join(by_row)} take activations that are quantized a row at a time")


def searched(job: Job) -> dict[str, Scheme]:
    """Writes the graph with as few matrices as need be taken out of the plain scheme, and says which."""
    schemes: dict[str, Scheme] = {}
    if save_int8(job, schemes) >= ENOUGH:
        return schemes
    search = Search(job.baseline)
    count = search.least()
    while save_int8(job, schemes := search.schemes(count)) < ENOUGH and count < search.most:
        count = min(search.most, count + 1 + count // 4)  # the simulation was too kind
    return schemes


def save_int8(job: Job, schemes: Mapping[str, Scheme]) -> float:
    """Writes the graph with these schemes, and returns the share of clear rows with float32's best token."""
    graph = job.baseline.graph()
    quantize(graph, schemes)
    graph.save(job.path, job.provenance)
    return join(list(job.baseline.rows(GraphForward(job.session())).values())).agreement()


def saved_bytes(module: nn.Module) -> int:
    """What 8 bits save of what a module reads: three of the four bytes of a weight, less a scale a column or row.

    The head reads the embedding's weights, and has scales of its own.
    """
    if isinstance(module, Projection):
        return 3 * module.weight.numel() - 4 * module.weight.shape[1]
    if isinstance(module, nn.Embedding):
        return 3 * module.weight.numel() - 4 * module.num_embeddings
    assert isinstance(module, Decoder), "nothing else multiplies"
    return -4 * module.bias.numel()


def checked(job: Job) -> GraphForward:
    """The graph that was written, when its sums are those of its own logits."""
    session = job.session()
    check_reductions(session, job.name)
    return GraphForward(session)


def judge(job: Job, agreement: float) -> None:
    """Tells of a miss, and refuses what is too far from float32."""
    if agreement < ENOUGH:
        said = (
            f"variant {job.name}: {agreement:.1%} of the clear rows have float32's best token; {ENOUGH:.0%} is the aim"
        )
        if agreement < LEAST_AGREEMENT and not job.options.accept:
            raise FidelityError(
                f"{said}, {LEAST_AGREEMENT:.0%} the least. Nothing was written; --accept writes it all the same"
            )
        note(f"{said}; the fidelity card has the figures")
