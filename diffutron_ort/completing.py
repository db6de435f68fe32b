"""Run sequences to completion, and keep the best of several answers."""

from collections import abc

from diffutron_ort.brief import brief
from diffutron_ort.completion import Completion, Tally
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.sampler.engine import Engine, batch_size, run
from diffutron_ort.sampler.sequence import Sequence
from diffutron_ort.scoring.work import finished

MOST_ANSWERS = 256


def check_best_of(best_of: object, config: GenerationConfig) -> None:
    """Check how many answers are to be written, of which one is kept.

    Raises:
        OptionError: It is not a number of answers, or all of them would be the same.
    """
    if not isinstance(best_of, int) or isinstance(best_of, bool) or not 1 <= best_of <= MOST_ANSWERS:
        raise OptionError(f"best_of={brief(best_of)}: must be an integer from 1 to {MOST_ANSWERS}")
    if best_of > 1 and not (config.temperature or config.stochastic_transfer or config.remasking == "random"):
        raise OptionError(
            f"best_of={best_of}: at temperature 0 all answers are the same; set a temperature, such as 0.5"
        )


def completed(
    engine: Engine, sequences: abc.Sequence[Sequence], best_of: int = 1, self_confidence: bool = False
) -> list[Completion]:
    """Run sequences to completion, and return their completions, in order.

    Args:
        engine: Runs them.
        sequences: The answers to each prompt stand together.
        best_of: How many answers a prompt has, of which the one is returned that the model is surest of.
        self_confidence: Whether to find out how sure the model is of an answer even where there is only one.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    tallies = tallied(engine, sequences)
    if best_of == 1 and not self_confidence:
        return [tally.completion() for tally in tallies]
    from diffutron_ort.scoring.regeneration import self_confidences  # a start does not need it

    confidences = finished(self_confidences(engine.forward, [tally.final for tally in tallies]))
    found = [tally.completion(sure) for tally, sure in zip(tallies, confidences, strict=True)]
    return [surest(found[i : i + best_of]) for i in range(0, len(found), best_of)]


def tallied(engine: Engine, sequences: abc.Sequence[Sequence]) -> list[Tally]:
    """Run sequences to completion, the longest first, a bounded number at a time; return what each took.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    tallies = [Tally() for _ in sequences]
    order = sorted(range(len(sequences)), key=lambda i: -sequences[i].canvas.length)
    for number, step in run(engine, (sequences[i] for i in order), batch_size(engine.forward)):
        tallies[order[number]].add(step)
    return tallies


def surest(completions: abc.Sequence[Completion]) -> Completion:
    """Return the completion with the highest self-confidence, the first among equals."""
    return max(completions, key=lambda one: -1.0 if one.self_confidence is None else one.self_confidence)
