"""Choose among given answers by how likely each is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.brief import brief
from diffutron_ort.choosing.choice import Choice
from diffutron_ort.choosing.question import Question
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.options import ScoringOptions
from diffutron_ort.scoring.passage import Passage
from diffutron_ort.scoring.scorer import scored
from diffutron_ort.scoring.work import Work
from diffutron_ort.types import SpecialIds

NORMALISATIONS: Mapping[str, Callable[[Passage], int]] = MappingProxyType(
    {
        "none": lambda _: 1,
        "tokens": lambda passage: len(passage.ids) - passage.start,
        "bytes": lambda passage: passage.bytes,
    }
)
"""What the log-likelihood of an option is divided by."""


def check_normalise(normalise: object) -> None:
    """Raise OptionError unless it is one of `NORMALISATIONS`."""
    if not isinstance(normalise, str) or normalise not in NORMALISATIONS:
        raise OptionError(f"normalise={brief(normalise)}: must be one of {', '.join(NORMALISATIONS)}")


def chosen(
    forward: Forward,
    special: SpecialIds,
    question: Question,
    passages: Sequence[Passage],
    options: ScoringOptions,
    *,
    normalise: str,
    level: bool,
) -> Work[Choice]:
    """Return the choice among the options of a question.

    Args:
        forward: The model.
        special: The control tokens.
        question: What is asked.
        passages: Each option after the first of the question's prompts, then each after the next.
        options: How they are scored.
        normalise: A key of `NORMALISATIONS`.
        level: Whether to put the options on canvases of one length, as `levelled` does.

    Raises:
        InputError: The model can write none of the options.
        DiffutronError: As for `scored`.
    """
    size, count = NORMALISATIONS[normalise], len(question.options)
    groups = [passages[begin : begin + count] for begin in range(0, len(passages), count)]
    canvases = [canvas for group in groups for canvas in (levelled(group, special.pad) if level else group)]
    scores = yield from scored(forward, special, canvases, options)
    values = np.array([score.logprob / size(passage) for score, passage in zip(scores, passages, strict=True)])
    by_order = _log_softmax(values.reshape(-1, count))
    return Choice(
        options=question.options,
        probabilities=np.exp(_log_softmax(by_order.mean(axis=0))),
        scores=tuple(scores[:count]),
        by_order=np.exp(by_order),
        passes=sum(score.passes for score in scores),
    )


def levelled(passages: Sequence[Passage], pad: int) -> list[Passage]:
    """Return passages of one length: the shorter ones are filled up with `<pad>`, as answers are in training.

    On a canvas of its own length, an answer would be given that length for nothing. On nano's held-out sums and gaps,
    choices of four are right in 99.0 % of 200 cases when levelled, else in 96.5 %.
    """
    longest = max(len(passage.ids) for passage in passages)
    return [_filled(passage, longest - len(passage.ids), pad) for passage in passages]


def _filled(passage: Passage, places: int, pad: int) -> Passage:
    """Return a passage with `places` more tokens, each of which counts as a word."""
    words = passage.words[-1:] + np.arange(1, places + 1)
    ids = np.full(places, pad, np.int64)
    return replace(passage, ids=np.append(passage.ids, ids), words=np.append(passage.words, words))


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms [..., n] of probabilities from log-likelihoods [..., n].

    Raises:
        InputError: All of a row are -inf.
    """
    best = values.max(axis=-1, keepdims=True)
    if not np.isfinite(best).all():
        raise InputError(
            "the model can write none of the options: its output vocabulary lacks them, or they are suppressed"
        )
    shifted = values - best
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
