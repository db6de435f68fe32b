"""Checks what a graph derives from its own logits: best tokens, sums, entropy, and the logits of targets."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import FidelityError
from diffutron_ort.types import Floats, Ids
from diffutron_ort_export.check.session import SHARED_OUTPUTS, GraphSession, Outputs
from diffutron_ort_export.check.verify import SEED, log_softmax, random_tokens
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS

TOLERANCE = 1e-4
"""The relative tolerance of sums and entropy against float64: float32 over 256,000 terms, with a margin."""

TINY = 1e-30
"""The absolute tolerance of sums. They may be as small as 1e-20, and which of two is smaller decides what is committed
first."""

NEVER = -1e29
"""A logit below this is a suppressed token's."""

LENGTH, BATCH = 8, 2
"""The canvases of the passes."""


class Options(NamedTuple):
    """What a pass is asked beside its tokens, for each sequence or row."""

    seen: Ids  # [batch, u]
    suppressed: Ids  # [batch, s]
    targets: Ids  # [n, t]
    penalty: NDArray[np.float32]  # [batch]
    temperature: NDArray[np.float32]  # [batch]

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs."""
        return {
            "seen_ids": self.seen,
            "suppress_ids": self.suppressed,
            "target_ids": self.targets,
            "repetition_penalty": self.penalty,
            "temperature": self.temperature,
        }


def check_reductions(session: GraphSession, name: str) -> None:
    """Compare a graph's reductions with those of its own logits at float64, in passes with several options.

    Args:
        session: The graph.
        name: The variant's name, for errors.

    Raises:
        FidelityError: A reduction differs, or a pass without rows or without logits does.
    """
    random = np.random.default_rng(SEED)
    ids = np.stack([random_tokens(random, session.shape, LENGTH) for _ in range(BATCH)])
    places, rows = np.tile(np.arange(LENGTH), (BATCH, 1)), np.arange(0, ids.size, 5)
    plain = session.run(ids, places, rows)
    for options in passes(session, plain["top_ids"], random, rows):
        found = session.run(ids, places, rows, fetch=SHARED_OUTPUTS, **options.inputs())
        require_same(name, "logits of a pass with other options", plain["logits"], found["logits"])
        for i, sequence in enumerate((rows // LENGTH).tolist()):
            check_row(session, name, found, options, i, sequence)
    check_wants(session, name, plain, (ids, places, rows))


def passes(session: GraphSession, best: Ids, random: np.random.Generator, rows: Ids) -> Iterator[Options]:
    """Yield options: none, with a penalty, and with suppressed best tokens as well.

    Args:
        session: The graph.
        best: The best tokens [n, k] without options.
        random: Draws the ids.
        rows: The rows [n].
    """
    none, one = np.zeros((BATCH, 0), np.int64), np.ones(BATCH, np.float32)
    cold, warm = np.array([0.1, 1.5], np.float32), np.array([0.5, 1], np.float32)
    penalty = np.array([1.3, 0.7], np.float32)
    targets = random.integers(session.shape.vocab_size, size=(len(rows), 3))
    targets[:, 0] = best[:, 0]
    yield Options(none, none, targets[:, :0], one, one)
    seen = random.integers(len(SPECIAL_IDS), session.shape.vocab_size, size=(BATCH, LENGTH))
    seen[:, ::2] = random.choice(session.predicted_ids[len(SPECIAL_IDS) :], size=seen[:, ::2].shape)
    seen = np.sort(seen, axis=1)
    yield Options(seen, none, targets, penalty, cold)
    suppressed = np.stack([best[rows // LENGTH == i].ravel()[:3] for i in range(BATCH)])
    yield Options(seen, suppressed, targets, penalty, warm)
    yield Options(none, suppressed, targets[:, :1], one, cold)


def check_row(session: GraphSession, name: str, found: Outputs, options: Options, row: int, sequence: int) -> None:
    """Compare what a pass says of one row with what follows from the row's logits."""
    ids, logits = session.predicted_ids, found["logits"][row].astype(np.float64)
    penalised = penalise(logits, np.isin(ids, options.seen[sequence]), float(options.penalty[sequence]))
    penalised[np.isin(ids, options.suppressed[sequence])] = -np.inf
    for output, expected in reductions(penalised, float(options.temperature[sequence])).items():
        require_same(name, f"{output} of a row", expected, found[output][row])
    check_order(name, found["top_ids"][row], found["top_logits"][row], ids, penalised)
    raw = np.full(session.shape.vocab_size, -np.inf)
    raw[ids] = logits
    require_same(name, "target_logits of a row", raw[options.targets[row]], found["target_logits"][row])


def check_order(name: str, top_ids: Ids, top_logits: Floats, ids: Ids, logits: Floats) -> None:
    """Require that the best tokens [k] have their own logits, and that the lower of two equally good ones is first."""
    columns = np.searchsorted(ids, top_ids)
    require_same(name, "top_logits of a row", logits[np.minimum(columns, ids.size - 1)], top_logits)
    tied = top_logits[1:] == top_logits[:-1]
    if not np.isin(top_ids, ids).all() or (tied & (np.diff(top_ids) <= 0)).any() or (np.diff(top_logits) > 0).any():
        raise FidelityError(
            f"variant {name}: the best tokens of a row are {top_ids[:8].tolist()}, …, with logits "
            f"{top_logits[:8].tolist()}, …, which is not their order. {ADVICE}"
        )


def check_wants(session: GraphSession, name: str, plain: Outputs, given: tuple[Ids, Ids, Ids]) -> None:
    """Require that a pass without rows and one without logits return the same, apart from what was not wanted."""
    ids, places, rows = given
    less = session.run(ids, places, rows, want_logits=np.array(False), want_entropy=np.array(False))
    none = session.run(ids, places, rows[:0])
    for output, expected in plain.items():
        if output.startswith(("key", "value")):
            require_same(name, f"{output} of a pass without rows", expected, none[output])
        else:
            require_same(name, f"{output} of a pass without rows", expected[:0], none[output])
        if output != "entropy":
            wanted = expected[:0] if output == "logits" else expected
            require_same(name, f"{output} of a pass without logits", wanted, less[output])


ADVICE = "Nothing was written; try the releases of onnx, onnxscript and onnxruntime that the README names"


def require_same(name: str, what: str, expected: Any, found: Any) -> None:
    """Raise FidelityError unless two arrays are the same up to rounding."""
    expected, found = np.asarray(expected), np.asarray(found)
    exact = TINY if what.startswith("rest") else TOLERANCE
    if expected.shape != found.shape or not np.allclose(clipped(found), clipped(expected), rtol=TOLERANCE, atol=exact):
        raise FidelityError(f"variant {name}: {what} is {found}, and its logits make it {expected}. {ADVICE}")


def clipped(values: Any) -> Any:
    """Return logits with all that are never chosen as the same finite number."""
    return np.maximum(values, NEVER)


def penalise(logits: Floats, seen: NDArray[np.bool_], penalty: float) -> Floats:
    """Return logits [vocab] after the repetition penalty on some."""
    return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)


def reductions(logits: Floats, temperature: float) -> dict[str, Any]:
    """Return the reductions of a row of penalised logits [vocab] at float64; of the best tokens, only the logits."""
    ordered = np.sort(logits)[::-1]
    others = ordered[1:] - ordered[0]
    log_p = log_softmax(logits[logits > NEVER])
    return {
        "top_logits": ordered[: min(64, logits.size)],
        "rest": np.exp(others).sum(),
        "rest_tempered": np.exp(others / temperature).sum(),
        "entropy": -(np.exp(log_p) * log_p).sum(),
    }
