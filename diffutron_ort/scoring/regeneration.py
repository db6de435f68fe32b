"""How sure a model is of a finished text: the probability of the text given itself (DiSE, arXiv:2603.02760)."""

from collections.abc import Sequence

import numpy as np

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.scoring.probe import Probe, probed
from diffutron_ort.scoring.work import Work


def self_confidences(forward: Forward, last_steps: Sequence[Step]) -> Work[list[float | None]]:
    """Return how sure the model is of each answer, from one more pass for each.

    It is the geometric mean of the probabilities that the model gives to the answer's tokens at their own places, while
    it sees all of them; None for an answer without a token.

    Args:
        forward: The model.
        last_steps: The last step of each answer.

    Raises:
        DiffutronError: As for `probed`.
    """
    written = [step for step in last_steps if step.answer.size]
    probes = [Probe(step.ids, step.answer, step.ids[step.answer, None]) for step in written]
    answers = iter((yield from probed(forward, probes)))
    return [float(np.exp(next(answers).logprobs.mean())) if step.answer.size else None for step in last_steps]
