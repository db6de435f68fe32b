"""Compares a graph in ONNX Runtime with transformers' ModernBertForMaskedLM: a fidelity card, or an error."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from diffutron_ort.bundle.manifest import EXACT
from diffutron_ort.checks.verify import MOST_ERROR
from diffutron_ort.errors import FidelityError
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.layout import TABLE, TIED
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS
from diffutron_ort_export.graph.network import Prediction

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default since 1.29, and read at import
import onnxruntime

Ids = NDArray[np.int64]
Floats = NDArray[np.floating]
Outputs = Mapping[str, NDArray[Any]]

SEED = 20260323
MOST_LOGITS = 2**24
"""The most logits that a case compares: 65 rows of 256,000."""

TOLERANCE = 1e-4
"""The relative tolerance of sums and entropy against float64: float32 over 256,000 terms, with a margin."""


@dataclass(frozen=True)
class Case:
    """The logits of the same positions from the reference and from the graph, each [n, vocab]."""

    name: str
    expected: Floats
    found: Floats


class Reference:
    """The model of transformers at float32, with eager attention."""

    def __init__(self, source: Source) -> None:
        config = transformers.ModernBertConfig(**source.config)
        config.reference_compile = False  # 4.57 would compile it
        config.sparse_prediction = False  # it would leave rows out
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model = transformers.ModernBertForMaskedLM.from_pretrained(
            None,  # no path: the constructor would first spend minutes on random weights
            config=config,
            state_dict={**source.tensors, TIED: source.tensors[TABLE]},
            dtype=torch.float32,
            attn_implementation="eager",
        )
        self.model = model.eval().requires_grad_(False)  # type: ignore[no-untyped-call]
        self.columns = source.columns

    def logits(self, ids: Ids, valid: NDArray[np.bool_]) -> Floats:
        """Return the logits that an export predicts: tokens and valid [batch, seq] -> [batch, seq, columns]."""
        return self.all_logits(ids, valid)[..., self.columns]

    def all_logits(self, ids: Ids, valid: NDArray[np.bool_]) -> Floats:
        """Return the logits of the whole vocabulary: tokens and valid [batch, seq] -> [batch, seq, vocab]."""
        mask = torch.from_numpy(valid.astype(np.int64))
        logits: Floats = self.model(input_ids=torch.from_numpy(ids), attention_mask=mask).logits.numpy()
        return logits


class GraphSession:
    """A graph in ONNX Runtime on the CPU, with defaults for the inputs that a pass leaves out."""

    def __init__(self, graph: Path, shape: Shape, output_vocabulary: Sequence[int] | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")  # 8-bit products that never saturate
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.shape = shape
        predicted = range(shape.vocab_size) if output_vocabulary is None else output_vocabulary
        self.predicted_ids = np.array(predicted)  # the id of each column of the logits

    def run(self, ids: Ids, positions: Ids, rows: Ids, **others: NDArray[Any]) -> Outputs:
        """Run one pass, by default without past, penalty and temperature."""
        batch = ids.shape[0]
        nothing = np.zeros((self.shape.layers, batch, 0, self.shape.hidden_size), np.float32)
        ones = np.ones(batch, np.float32)
        feed = {
            "input_ids": ids,
            "position_ids": positions,
            "past_position_ids": np.zeros((batch, 0), np.int64),
            "past_key": nothing,
            "past_value": nothing,
            "rows": rows,
            "seen_ids": np.zeros((batch, 1), np.int64),
            "repetition_penalty": ones,
            "temperature": ones,
        }
        names = list(Prediction._fields)
        return dict(zip(names, self.session.run(names, feed | others), strict=True))


def verify_exact(reference: Reference, session: GraphSession, name: str) -> dict[str, Any]:
    """Compare a float32 graph with transformers, at shapes other than the traced one.

    Args:
        reference: The checkpoint in transformers.
        session: The graph.
        name: The variant's name, for errors.

    Returns:
        The fidelity card, as `exact_card` returns it.

    Raises:
        FidelityError: The difference exceeds the tolerance.
    """
    card = exact_card(list(compared_cases(reference, session, session.shape)), name)
    check_reductions(session, name)
    return card


def exact_card(cases: Sequence[Case], name: str) -> dict[str, Any]:
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
    card = logit_figures(
        np.concatenate([case.expected for case in cases]), np.concatenate([case.found for case in cases])
    )
    card["cases"] = {case.name: largest_error(case.expected, case.found) for case in cases}
    check(card, name)
    return card


def compared_cases(reference: Reference, session: GraphSession, shape: Shape) -> Iterator[Case]:
    """Yield the cases: longer than the window, right-padded, and cached after a pass without rows."""
    random = np.random.default_rng(SEED)
    length = longest(shape)
    yield long_case(reference, session, random_tokens(random, shape, 1, length))
    yield padded_case(reference, session, random_tokens(random, shape, 3, length // 2 + 1))
    yield cached_case(reference, session, random_tokens(random, shape, 1, length), random)


def longest(shape: Shape) -> int:
    """Return the number of tokens of the longest case: more than a local layer sees."""
    return min(shape.positions, shape.window + shape.window // 2 + 7)


def random_tokens(random: np.random.Generator, shape: Shape, batch: int, length: int) -> Ids:
    """Return random tokens [batch, length], about half of them masks."""
    ids = random.integers(shape.vocab_size, size=(batch, length))
    return np.where(random.random((batch, length)) < 0.5, SPECIAL_IDS["mask"], ids)


def long_case(reference: Reference, session: GraphSession, ids: Ids) -> Case:
    """Compare one sequence, longer than a local layer sees."""
    valid = np.ones(ids.shape, bool)
    rows = spread(np.arange(ids.size), session.shape)
    found = session.run(ids, np.arange(ids.size)[None], rows)
    return Case("long", reference.logits(ids, valid)[0, rows], found["logits"])


def padded_case(reference: Reference, session: GraphSession, ids: Ids) -> Case:
    """Compare sequences of three lengths, padded on the right."""
    batch, length = ids.shape
    places = np.tile(np.arange(length), (batch, 1))
    valid = places < np.linspace(length, 1, batch).astype(int)[:, None]
    ids = np.where(valid, ids, SPECIAL_IDS["pad"])
    rows = spread(np.flatnonzero(valid), session.shape)
    logits = reference.logits(ids, valid)
    expected = logits.reshape(-1, logits.shape[-1])[rows]
    return Case("padded", expected, session.run(ids, np.where(valid, places, -1), rows)["logits"])


def cached_case(reference: Reference, session: GraphSession, ids: Ids, random: np.random.Generator) -> Case:
    """Compare a block that is computed against the cached keys and values of the rest, shuffled and with gaps.

    The full pass that fills the cache predicts no rows.
    """
    length = ids.shape[1]
    places = np.arange(length)[None]
    block = np.arange(length // 3, 2 * length // 3 + 1)
    full = session.run(ids, places, np.zeros(0, np.int64))
    order = random.permutation(length)
    past = {
        "past_position_ids": np.where(np.isin(order, block), -1, order)[None],
        "past_key": full["key"][:, :, order],
        "past_value": full["value"][:, :, order],
    }
    rows = spread(np.arange(block.size), session.shape)
    found = session.run(ids[:, block], places[:, block], rows, **past)
    return Case("cached", reference.logits(ids, np.ones(ids.shape, bool))[0, block[rows]], found["logits"])


def spread(rows: Ids, shape: Shape) -> Ids:
    """Return the rows, or as many evenly spread ones as MOST_LOGITS allows."""
    most = max(1, MOST_LOGITS // shape.vocab_size)
    return rows[:: -(-rows.size // most)]


def logit_figures(expected: Floats, found: Floats) -> dict[str, Any]:
    """Return the figures of a fidelity card from two arrays of logits, each [n, vocab]."""
    error, std = largest_error(expected, found), float(expected.std(dtype=np.float64))
    if not std > 0:
        raise FidelityError(
            "every token has the same logit, so the checkpoint predicts nothing, or logits are not finite. Nothing was "
            "written; take a checkpoint that was trained"
        )
    same = expected.argmax(-1) == found.argmax(-1)
    clear = margins(expected) > error
    return {
        "max_abs": error,
        "std": std,
        EXACT: error / std,
        "top1_agreement": float(same.mean()),
        "top1_agreement_clear": float(same[clear].mean()) if clear.any() else 1.0,
        "kl": float(np.mean([kl_divergence(p, q) for p, q in zip(expected, found, strict=True)])),
        "rows": len(expected),
    }


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
            f"variant {name}: a logit differs from transformers' by {card['max_abs']:.3g}, which is "
            f"{error:.3g} of the logits' standard deviation; allowed is {MOST_ERROR:g}. "
            "Nothing was written; try the releases of torch, onnx and onnxruntime that the README names"
        )
    if not agreement >= 1:
        raise FidelityError(
            f"variant {name}: {agreement:.2%} of the clear rows have transformers' best token; all are required. "
            "Nothing was written"
        )


def check_reductions(session: GraphSession, name: str) -> None:
    """Refuse a graph whose best tokens, sums or entropy do not follow from its own logits, at float64."""
    shape = session.shape
    random = np.random.default_rng(SEED)
    ids = random_tokens(random, shape, 2, 8)
    seen = random.integers(len(SPECIAL_IDS), shape.vocab_size, size=ids.shape)
    seen[:, ::2] = random.choice(
        session.predicted_ids[session.predicted_ids >= len(SPECIAL_IDS)], size=seen[:, ::2].shape
    )
    rows, penalty, temperature = np.arange(0, 16, 5), np.array([1.3, 0.7], np.float32), np.array([0.5, 1.5], np.float32)
    options: dict[str, NDArray[Any]] = {"seen_ids": seen, "repetition_penalty": penalty, "temperature": temperature}
    found = session.run(ids, np.tile(np.arange(8), (2, 1)), rows, **options)
    for i, row in enumerate(rows):
        sequence = row // 8
        columns = np.flatnonzero(np.isin(session.predicted_ids, seen[sequence]))
        expected = reductions(found["logits"][i], columns, float(penalty[sequence]), float(temperature[sequence]))
        for output, value in expected.items():
            if not np.allclose(found[output][i], value, rtol=TOLERANCE, atol=TOLERANCE):
                raise FidelityError(
                    f"variant {name}: {output} of a row is {found[output][i]}, and its logits make it {value}. "
                    "Nothing was written; try the releases of torch, onnx and onnxruntime that the README names"
                )


def reductions(logits: Floats, seen: Ids, penalty: float, temperature: float) -> dict[str, Any]:
    """Return the reductions of a row of logits [vocab] at float64; of the best tokens, only the logits."""
    logits = logits.astype(np.float64)
    unique = np.unique(seen)
    logits[unique] = np.where(logits[unique] > 0, logits[unique] / penalty, logits[unique] * penalty)
    ordered = np.sort(logits)[::-1]
    others = ordered[1:] - ordered[0]
    log_p = log_softmax(logits)
    return {
        "top_logits": ordered[: min(64, logits.size)],
        "rest": np.exp(others).sum(),
        "rest_tempered": np.exp(others / temperature).sum(),
        "entropy": -(np.exp(log_p) * log_p).sum(),
    }
