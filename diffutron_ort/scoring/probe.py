"""Ask the model about tokens of a canvas, in one pass and without a step of the sampler."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import ProviderError
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions
from diffutron_ort.sampler import sampling
from diffutron_ort.sampler.predict import Best, check_numbers
from diffutron_ort.sampler.ragged import padded, repeated
from diffutron_ort.scoring.work import Work
from diffutron_ort.types import Ids

MOST_TOKENS = 2048  # of a pass: beyond it, another sequence saves no time


@dataclass(frozen=True, eq=False)
class Probe:
    """A question to the model: how likely are these tokens at these places of a canvas?

    Attributes:
        ids: int64 [length], the canvas.
        positions: int64 [m], the places asked about, ascending; usually masks.
        targets: int64 [m, t], the tokens asked about, different ones at each place.
        suppress_ids: int64 [s], ids that are left out: the probabilities of all others sum to 1.
    """

    ids: Ids
    positions: Ids
    targets: Ids
    suppress_ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))


class Answer(NamedTuple):
    """What the model says to a probe, without a repetition penalty and at temperature 1.

    Attributes:
        logprobs: float64 [m, t], the logarithms of the targets' probabilities.
        best: The best tokens of each place, those asked about or not.
    """

    logprobs: NDArray[np.float64]
    best: Best


def probed(forward: Forward, probes: Sequence[Probe]) -> Work[list[Answer]]:
    """Return the answers to probes, in order, from as few passes as the model allows.

    Those that follow one another share a pass if the model is batch-invariant; so put those of like lengths together.

    Raises:
        NumericsError: The model returned something that is not finite.
        ProviderError: There is not enough memory for a pass.
    """
    answers: list[Answer] = []
    for group in _groups(probes, alone=not forward.batch_invariant):
        try:
            answers += _answers(forward(_pass_input(group)), group)
        except MemoryError as error:
            raise ProviderError("there is not enough memory for a pass: give shorter texts") from error
        yield len(answers) / len(probes)
    return answers


def _groups(probes: Iterable[Probe], alone: bool) -> Iterator[list[Probe]]:
    """Yield the probes that share a pass: as many as fit, all with ids to suppress or all without."""
    group: list[Probe] = []
    for probe in probes:
        longest = max(len(member.ids) for member in (*group, probe))
        fits = (len(group) + 1) * longest <= MOST_TOKENS
        if group and (alone or not fits or bool(group[0].suppress_ids.size) != bool(probe.suppress_ids.size)):
            yield group
            group = []
        group.append(probe)
    if group:
        yield group


def _pass_input(group: Sequence[Probe]) -> PassInput:
    """Return the inputs of one pass over the canvases of a group."""
    input_ids = padded([probe.ids for probe in group], 0)
    batch, seq = input_ids.shape
    most = max(probe.targets.shape[1] for probe in group)
    targets = [np.pad(probe.targets, ((0, 0), (0, most - probe.targets.shape[1]))) for probe in group]
    return PassInput(
        input_ids=input_ids,
        position_ids=padded([np.arange(len(probe.ids)) for probe in group], -1),
        rows=np.concatenate([i * seq + probe.positions for i, probe in enumerate(group)]),
        seen_ids=np.zeros((batch, 0), np.int64),
        suppress_ids=repeated([probe.suppress_ids for probe in group]),
        repetition_penalty=np.ones(batch, np.float32),
        temperature=np.ones(batch, np.float32),
        target_ids=np.concatenate(targets),
    )


def _answers(found: Predictions, group: Sequence[Probe]) -> list[Answer]:
    """Return what a pass says to each probe of a group."""
    check_numbers(found, False, "asked about a text")
    logprobs = sampling.logprobs(found.top_logits, found.top_logits[:, 0], found.rest)
    answers, begin = [], 0
    for probe in group:
        own = slice(begin, begin := begin + len(probe.positions))
        answers.append(Answer(_logprobs(found, own, probe), Best(found.top_ids[own], logprobs[own])))
    return answers


def _logprobs(found: Predictions, own: slice, probe: Probe) -> NDArray[np.float64]:
    """Return the logarithms [m, t] of the probabilities of a probe's targets; `own` are its rows."""
    targets = probe.targets
    raw = found.target_logits[own, : targets.shape[1]].copy()
    raw[np.isin(targets, probe.suppress_ids)] = -np.inf
    best, rest = found.top_logits[own, 0], found.rest[own]
    rows = Predictions(found.top_ids[own], found.top_logits[own], rest, rest, rest, raw)
    return sampling.logprobs(sampling.known_logits(rows, targets, raw), best, rest)
