"""Score texts by one of the methods."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.bound import bound
from diffutron_ort.scoring.options import SAMPLES, ScoringOptions
from diffutron_ort.scoring.passage import Found, Passage, Stretch, stretches
from diffutron_ort.scoring.policy import policy
from diffutron_ort.scoring.pseudo import pseudo
from diffutron_ort.scoring.score import Score
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.types import SpecialIds

TOGETHER = 32  # texts, and windows, that are prepared at a time: the masks drawn for all of them are in memory

Method: TypeAlias = Callable[[Forward, SpecialIds, Sequence[Stretch], ScoringOptions], Work[list[Found]]]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "policy": lambda forward, special, given, options: policy(forward, special, given, options.config),
        "elbo": lambda forward, special, given, options: bound(forward, special.mask, given, options.samples),
        "pll": lambda forward, special, given, _: pseudo(forward, special.mask, given, by_word=False),
        "pll_word_l2r": lambda forward, special, given, _: pseudo(forward, special.mask, given, by_word=True),
    }
)
"""What finds out the likelihood of stretches of text, by name."""


def scored(
    forward: Forward, special: SpecialIds, passages: Sequence[Passage], options: ScoringOptions
) -> Work[list[Score]]:
    """Return the scores of passages, in order.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    scores: dict[int, Score] = {}
    order = iter(sorted(range(len(passages)), key=lambda i: -len(passages[i].ids)))  # like lengths share passes
    while group := list(islice(order, TOGETHER)):
        begin, end = len(scores) / len(passages), (len(scores) + len(group)) / len(passages)
        found = yield from part(_scored(forward, special, [passages[i] for i in group], options), begin, end)
        scores |= zip(group, found, strict=True)
    return [scores[i] for i in range(len(passages))]


def _scored(
    forward: Forward, special: SpecialIds, passages: Sequence[Passage], options: ScoringOptions
) -> Work[list[Score]]:
    """Return the scores of a few passages."""
    each = [stretches(passage, special.mask, options.context_length, options.window_stride) for passage in passages]
    whole = [stretch for own in each for stretch in own]
    found = iter((yield from _found(forward, special, whole, options)))
    return [
        _joined(passage, own, list(islice(found, len(own))), options.method)
        for passage, own in zip(passages, each, strict=True)
    ]


def _found(
    forward: Forward, special: SpecialIds, given: Sequence[Stretch], options: ScoringOptions
) -> Work[list[Found]]:
    """Return what the method finds out about stretches, a few at a time: one text can have thousands.

    They are fewer where each has more samples than usual.
    """
    found: list[Found] = []
    together = max(1, TOGETHER * SAMPLES // max(SAMPLES, options.samples))
    for begin in range(0, len(given), together):
        few = given[begin : begin + together]
        work = METHODS[options.method](forward, special, few, options)
        found += yield from part(work, begin / len(given), (begin + len(few)) / len(given))
    return found


def _joined(passage: Passage, own: Sequence[Stretch], found: Sequence[Found], method: str) -> Score:
    """Return the score of a passage from those of its windows."""
    nothing = np.zeros(0, np.float64)
    logprobs = np.concatenate([nothing, *(one.logprobs for one in found)])
    variance = sum(one.variance or 0.0 for one in found)
    shown = own[0].start if own else passage.start
    return Score(
        method=method,
        logprob=float(logprobs.sum()),
        ids=np.concatenate([nothing.astype(np.int64), *(stretch.ids[stretch.positions] for stretch in own)]),
        logprobs=logprobs,
        bytes=passage.bytes,
        joined=passage.joined,
        context_tokens=shown,
        context_cut=passage.start - shown,
        standard_error=math.sqrt(variance) if method == "elbo" else None,
        passes=sum(one.passes for one in found),
    )
