"""Writes and judges the variants; every writer returns the variant's fidelity card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort.checks.verify import LEAST_AGREEMENT
from diffutron_ort.errors import FidelityError
from diffutron_ort_export.check.fidelity import Fp32Baseline
from diffutron_ort_export.check.reductions import check_reductions
from diffutron_ort_export.check.reference import HalfPrecisionError, Reference
from diffutron_ort_export.check.rows import Rows, join
from diffutron_ort_export.check.session import GraphForward, GraphSession
from diffutron_ort_export.check.verify import verify_exact
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import tensor_shapes
from diffutron_ort_export.graph.denoiser import write_denoiser, write_sharing
from diffutron_ort_export.graph.precision import Precision, matrix_names
from diffutron_ort_export.progress import note
from diffutron_ort_export.quantize.sensitivity import TARGET_AGREEMENT, excluded, fewest, ranked
from diffutron_ort_export.recipes import RECIPES, runnable

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
        cards: The fidelity cards of the variants that have been written, by name.
    """

    name: str
    path: Path
    provenance: Mapping[str, str]
    baseline: Fp32Baseline
    options: Options = field(default_factory=Options)
    cards: Mapping[str, Card] = field(default_factory=dict)

    def write(self, precision: Precision, left: Sequence[str] = (), *, sharing: Path | None = None) -> None:
        """Write the graph and its weights.

        Args:
            precision: The precision of the matrices.
            left: Those that are in float32 instead.
            sharing: A graph in the same folder whose weights this one reads, instead of writing its own.
        """
        source, masked = self.baseline.source, self.baseline.masked_score
        precisions = dict.fromkeys(matrix_names(source.shape), precision) | dict.fromkeys(left, Precision.FLOAT32)
        if sharing is None:
            write_denoiser(source, self.path, precisions, self.provenance, masked)
        else:
            write_sharing(source, self.path, precisions, self.provenance, sharing, masked)

    def session(self) -> GraphSession:
        """Return a session that runs the written graph."""
        return GraphSession(self.path, self.baseline.source.shape, self.baseline.source.output_vocabulary)


def write_fp32(job: Job) -> Card:
    """Write float32, which must equal the reference."""
    job.write(Precision.FLOAT32)
    session = job.session()
    card = verify_exact(job.baseline.oracle, session, job.name)
    check_reductions(session, job.name)
    return card


def write_fp16(job: Job) -> Card:
    """Write half precision, for CUDA.

    It is judged by the reference in half precision, since the CPU provider computes in float32. The graph generates the
    canvases at which the two are asked.
    """
    try:
        card, on_cpu = fp16_cards(job)
    except HalfPrecisionError as error:
        raise FidelityError(
            f"variant {job.name}: the product with {error.matrix} overflows half precision, which ends at 65,504. "
            f"Nothing was written; choose {runnable(but=job.name)} for this checkpoint"
        ) from error
    judge(job, min(card["agreement"], on_cpu.agreement()))
    return card | {"graph_on_cpu": on_cpu.card()}


def fp16_cards(job: Job) -> tuple[Card, Rows]:
    """Write half precision, and return the fidelity card of the reference, and the graph's rows."""
    source, baseline = job.baseline.source, job.baseline
    precisions = dict.fromkeys(matrix_names(source.shape), Precision.FLOAT16)
    half = Reference(source.weights, source.shape, precisions=precisions)
    compared = baseline.oracle_rows(half)  # first, since it names a matrix that overflows
    job.write(Precision.FLOAT16)
    forward = checked_forward(job)
    card = baseline.card(compared, forward, job.name, oracle=half)
    return card, join(list(baseline.rows(forward).values()))


def write_int8(job: Job) -> Card:
    """Write 8 bits, except for the matrices that are excluded or, by default, those that measuring finds to hurt."""
    shape = job.baseline.source.shape
    if job.options.exclude is None:
        tried = searched(job)
    else:
        tried = attempt(job, Precision.INT8_PER_TENSOR, excluded(job.options.exclude, matrix_names(shape)))
    check_reductions(tried.forward.session, job.name)
    card = job.baseline.card(tried.compared, tried.forward, job.name)
    judge(job, card["agreement"])
    left, extra = sorted(tried.left), sum(saved_bytes(shape, name) for name in tried.left)
    if left:
        note(f"variant {job.name}: {', '.join(left)} stayed in float32, which adds {extra / 1e6:.1f} MB")
    scales = "token" if tried.precision is Precision.INT8 else "tensor"
    return card | {"activation_scales": scales, "left_in_float": left, "extra_bytes": extra}


def write_int8_batch(job: Job) -> Card:
    """Write 8 bits with one activation scale a token, over the weights of int8, which has been written."""
    other = RECIPES["int8"]
    left = job.cards[other.name]["left_in_float"]
    job.write(Precision.INT8, left, sharing=job.path.with_name(f"{other.stem}.onnx"))
    forward = checked_forward(job)
    card = job.baseline.card(job.baseline.rows(forward), forward, job.name)
    judge(job, card["agreement"])
    return card | {"activation_scales": "token", "left_in_float": left}


class Attempt(NamedTuple):
    """A written graph of 8 bits.

    Attributes:
        precision: The precision of the matrices.
        left: Those that are in float32 instead.
        forward: The graph as a model.
        compared: Its passes, compared with float32's by mask ratio.
    """

    precision: Precision
    left: Sequence[str]
    forward: GraphForward
    compared: Mapping[float, Rows]

    @property
    def suffices(self) -> bool:
        """Whether the graph agrees with float32 as it should."""
        return join(list(self.compared.values())).agreement() >= TARGET_AGREEMENT


def attempt(job: Job, precision: Precision, left: Sequence[str] = ()) -> Attempt:
    """Write the graph with these matrices in float32, and compare its passes with float32's."""
    job.write(precision, left)
    forward = GraphForward(job.session())
    return Attempt(precision, left, forward, job.baseline.rows(forward))


def searched(job: Job) -> Attempt:
    """Write the fastest graph that suffices.

    One activation scale a pass is the fastest; one a token confines the coarse scale of an outlier to its own token;
    and after that, as few matrices as possible stay in float32.
    """
    for precision in (Precision.INT8_PER_TENSOR, Precision.INT8):
        tried = attempt(job, precision)
        if tried.suffices:
            return tried
        del tried  # its session has the weights mapped, which are written again
    order = ranked(job.baseline)
    count = fewest(lambda count: attempt(job, Precision.INT8, order[:count]).suffices, len(order))
    return attempt(job, Precision.INT8, order[:count])  # the last try may have been another


def saved_bytes(shape: Shape, name: str) -> int:
    """Return the bytes that 8 bits save in a matrix: three of each weight's four, less a scale for each row."""
    rows, columns = tensor_shapes(shape)[f"{name}.weight"]
    return 3 * rows * columns - 4 * rows


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
