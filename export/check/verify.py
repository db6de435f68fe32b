"""Compares a graph in ONNX Runtime with the reference: a fidelity card, or an error."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.bundle.manifest import EXACT
from diffutron_ort.checks.verify import MOST_ERROR
from diffutron_ort.errors import FidelityError
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.reference import Asked, Oracle
from diffutron_ort_export.check.session import GraphSession
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS

SEED = 20260323
MOST_LOGITS = 2**23
"""The most logits of a canvas that are compared: 32 rows of 256,000."""


class Trial(NamedTuple):
    """Canvases, and what the graph predicts for their rows."""

    name: str
    asked: Sequence[Asked]
    found: Floats  # [n, columns], the rows in the order of the canvases


@dataclass(frozen=True)
class Case:
    """The logits of the same positions from the reference and from the graph, each [n, columns]."""

    name: str
    expected: Floats
    found: Floats


def verify_exact(oracle: Oracle, session: GraphSession, name: str) -> dict[str, Any]:
    """Compare a float32 graph with the reference.

    Args:
        oracle: The reference.
        session: The graph.
        name: The variant's name, for errors.

    Returns:
        The fidelity card, as `exact_card` returns it.

    Raises:
        FidelityError: The difference exceeds the tolerance.
    """
    return exact_card(compared(oracle, list(trials(session)), session.kept), name)


def trials(session: GraphSession) -> Iterator[Trial]:
    """Yield what the graph predicts for a long canvas, for a padded batch, and in a cached pass."""
    random, length = np.random.default_rng(SEED), longest(session.shape)
    yield long_trial(session, random_tokens(random, session.shape, length))
    yield padded_trial(session, [random_tokens(random, session.shape, n) for n in lengths(length // 2 + 1)])
    yield cached_trial(session, random_tokens(random, session.shape, length), random)


def compared(oracle: Oracle, found: Sequence[Trial], kept: Ids | None) -> Iterator[Case]:
    """Yield the cases of all trials, after one call of the reference.

    Args:
        oracle: The reference.
        found: What a graph predicts.
        kept: The ids [columns] that the graph can predict; None means all.
    """
    expected = oracle.logits([canvas for trial in found for canvas in trial.asked], kept)
    ends = np.cumsum([len(trial.found) for trial in found])
    for trial, logits in zip(found, np.split(expected, ends[:-1]), strict=True):
        yield Case(trial.name, logits, trial.found)


def longest(shape: Shape) -> int:
    """Return the number of tokens of the longest case: more than a local layer sees."""
    return min(shape.positions, shape.window + shape.window // 2 + 7)


def lengths(length: int) -> list[int]:
    """Return the lengths of the sequences of a batch: the longest, about half of it, and 1."""
    return [length, (length + 1) // 2, 1]


def random_tokens(random: np.random.Generator, shape: Shape, length: int) -> Ids:
    """Return random tokens [length], about half of them masks."""
    return np.where(random.random(length) < 0.5, SPECIAL_IDS["mask"], random.integers(shape.vocab_size, size=length))


def long_trial(session: GraphSession, ids: Ids) -> Trial:
    """Predict one sequence, longer than a local layer sees."""
    rows = spread(np.arange(ids.size), session.shape)
    found = session.run(ids[None], np.arange(ids.size)[None], rows, fetch=["logits"])
    return Trial("long", [Asked(ids, rows)], found["logits"])


def padded_trial(session: GraphSession, canvases: Sequence[Ids]) -> Trial:
    """Predict sequences of several lengths, the longest first, padded on the right."""
    length = canvases[0].size
    asked = [Asked(ids, spread(np.arange(ids.size), session.shape, len(canvases))) for ids in canvases]
    ids = np.stack([np.pad(ids, (0, length - ids.size), constant_values=SPECIAL_IDS["pad"]) for ids in canvases])
    places = np.stack([np.pad(np.arange(ids.size), (0, length - ids.size), constant_values=-1) for ids in canvases])
    rows = np.concatenate([i * length + canvas.rows for i, canvas in enumerate(asked)])
    return Trial("padded", asked, session.run(ids, places, rows, fetch=["logits"])["logits"])


def cached_trial(session: GraphSession, ids: Ids, random: np.random.Generator) -> Trial:
    """Predict a block that is computed against the cached keys and values of the rest, shuffled and with gaps.

    The full pass that fills the cache predicts no rows.
    """
    layers, places = range(session.shape.layers), np.arange(ids.size)
    full = session.run(ids[None], places[None], np.zeros(0, np.int64))
    block, order = places[ids.size // 3 : 2 * ids.size // 3 + 1], random.permutation(ids.size)
    past = {f"past_{name}.{i}": full[f"{name}.{i}"][:, order] for i in layers for name in ("key", "value")}
    past["past_position_ids"] = np.where(np.isin(order, block), -1, order)[None]
    rows = spread(np.arange(block.size), session.shape)
    found = session.run(ids[None, block], block[None], rows, fetch=["logits"], **past)
    return Trial("cached", [Asked(ids, block[rows])], found["logits"])


def spread(rows: Ids, shape: Shape, share: int = 1) -> Ids:
    """Return the rows, or as many evenly spread ones as a part of MOST_LOGITS allows, which `share` canvases share."""
    most = max(1, MOST_LOGITS // shape.vocab_size // share)
    return rows[:: -(-rows.size // most)]


class Figures(NamedTuple):
    """What is kept of a case."""

    error: float  # the largest of all logits
    total: float  # the sum of the reference's logits
    squares: float  # and of their squares
    size: int
    margins: Floats  # [n]
    same: NDArray[np.bool_]  # [n], whether the best token is the reference's
    kl: Floats  # [n], KL(reference || graph) in nats


def figures(case: Case) -> Figures:
    """Return the figures of a case."""
    expected, found = case.expected, case.found
    return Figures(
        largest_error(expected, found),
        float(expected.sum(dtype=np.float64)),
        float(np.square(expected, dtype=np.float64).sum()),
        expected.size,
        margins(expected),
        np.asarray(expected.argmax(axis=-1) == found.argmax(axis=-1)),
        np.array([kl_divergence(p, q) for p, q in zip(expected, found, strict=True)]),
    )


def exact_card(cases: Iterable[Case], name: str) -> dict[str, Any]:
    """Return the fidelity card of an exact variant, if it is within the tolerance.

    Args:
        cases: Logits of the same vocabulary.
        name: The variant's name, for errors.

    Returns:
        The fidelity card: max_abs, std (of the reference's logits) and max_abs_over_std over all compared logits;
        top1_agreement, top1_agreement_clear (where the reference's margin is larger than max_abs) and the mean of
        KL(reference || graph) in nats over all rows; the number of rows; and max_abs of each case.

    Raises:
        FidelityError: The difference exceeds the tolerance.
    """
    measured = {case.name: figures(case) for case in cases}
    card = logit_figures(list(measured.values()))
    card["cases"] = {name: case.error for name, case in measured.items()}
    check(card, name)
    return card


def logit_figures(cases: Sequence[Figures]) -> dict[str, Any]:
    """Return the figures of a fidelity card."""
    error, std = float(np.max([case.error for case in cases])), deviation(cases)  # np.max keeps NaN, max may not
    if not std > 0:
        raise FidelityError(
            "every token has the same logit, so the checkpoint predicts nothing, or logits are not finite. Nothing was "
            "written; take a checkpoint that was trained"
        )
    same, lead, kl = (np.concatenate([getattr(case, field) for case in cases]) for field in ("same", "margins", "kl"))
    clear = lead > error
    return {
        "max_abs": error,
        "std": std,
        EXACT: error / std,
        "top1_agreement": float(same.mean()),
        "top1_agreement_clear": float(same[clear].mean()) if clear.any() else 1.0,
        "kl": float(kl.mean()),
        "rows": len(same),
    }


def deviation(cases: Sequence[Figures]) -> float:
    """Return the standard deviation of the reference's logits in all cases; NaN if one is not finite."""
    count = sum(case.size for case in cases)
    mean = sum(case.total for case in cases) / count
    return float(np.sqrt(np.maximum(sum(case.squares for case in cases) / count - mean * mean, 0)))


def largest_error(expected: Floats, found: Floats) -> float:
    """Return the largest difference; NaN if there is one."""
    return float(np.abs(expected - found).max())


def margins(logits: Floats) -> Floats:
    """Return the lead of the best token: [n, vocab] -> [n]."""
    second, best = np.partition(logits, -2, axis=-1)[:, -2:].T
    return np.asarray(best - second)


def kl_divergence(expected: Floats, found: Floats) -> float:
    """Return KL(expected || found) of two rows of logits [vocab], in nats, at float64."""
    p, q = log_softmax(expected), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum())


def log_softmax(logits: Floats) -> Floats:
    """Return the log-probabilities of logits [..., vocab], at float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def check(card: Mapping[str, Any], name: str) -> None:
    """Refuse a card that exceeds the tolerance; the comparisons refuse NaN too."""
    error, agreement = card[EXACT], card["top1_agreement_clear"]
    if not error <= MOST_ERROR:
        raise FidelityError(
            f"variant {name}: a logit differs from the reference's by {card['max_abs']:.3g}, which is "
            f"{error:.3g} of the logits' standard deviation; allowed is {MOST_ERROR:g}. "
            "Nothing was written; try the releases of onnx, onnxscript and onnxruntime that the README names"
        )
    if not agreement >= 1:
        raise FidelityError(
            f"variant {name}: {agreement:.2%} of the clear rows have the reference's best token; all are required. "
            "Nothing was written"
        )
