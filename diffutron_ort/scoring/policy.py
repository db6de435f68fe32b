"""The likelihood of a text under the sampler: the loop with the text's tokens forced (DUEL, arXiv:2603.01367).

At temperature 0 the model's predictions alone decide which positions a step commits, so the probability of a text is
the product of what the steps give its tokens: exact, and at the cost of one generation.
"""

from collections import abc

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.sampler.engine import Engine, batch_size, rounds
from diffutron_ort.sampler.sequence import Sequence
from diffutron_ort.scoring.passage import Found, Stretch
from diffutron_ort.scoring.work import Work
from diffutron_ort.types import SpecialIds


def policy(
    forward: Forward, special: SpecialIds, stretches: abc.Sequence[Stretch], config: GenerationConfig
) -> Work[list[Found]]:
    """Return the exact likelihood of each stretch under the sampler at temperature 0.

    Args:
        forward: The model.
        special: The control tokens.
        stretches: Each a canvas whose generated span is what it scores.
        config: The options of the sampler. `temperature` must be 0; `max_new_tokens`, `stop` and `early_end` have no
            meaning.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    assert config.temperature == 0, "the order of the commits must not depend on what is drawn"
    logprobs = [np.zeros(len(stretch.ids), np.float64) for stretch in stretches]
    passes, total = [0] * len(stretches), sum(len(stretch.positions) for stretch in stretches)
    left = total
    sequences = (_forced(stretch, special, config) for stretch in stretches)
    for steps in rounds(Engine(forward), sequences, batch_size(forward)):
        for number, step in steps:
            known = step.ids[step.positions] != special.mask
            logprobs[number][step.positions[known]] = step.logprobs[known]
            passes[number] += 1
            left -= int(known.sum())
        yield 1 - left / total
    found = zip(stretches, logprobs, passes, strict=True)
    return [Found(values[stretch.positions], None, taken) for stretch, values, taken in found]


def _forced(stretch: Stretch, special: SpecialIds, config: GenerationConfig) -> Sequence:
    """Return the sequence that writes a stretch, whatever the model would write."""
    span = np.arange(stretch.start, len(stretch.ids))
    canvas = Canvas(stretch.with_masks(span, special.mask), stretch.start, stretch.seed)
    return Sequence(canvas, config, special, forced=stretch.ids)
