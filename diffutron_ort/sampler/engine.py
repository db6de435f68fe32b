"""The loop: sequences in, a `Step` for each of them out. It knows ids and a callable, nothing else."""

from collections import abc
from collections.abc import Iterable, Iterator
from itertools import islice

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import NumericsError, ProviderError
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.cache import PassPlan
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.sampler.predict import Candidates, predict
from diffutron_ort.sampler.sequence import Reader, Sequence, Step
from diffutron_ort.types import SpecialIds

BATCH_SIZE = 8
"""How many sequences share a pass, unless someone says otherwise."""


class Engine:
    """Takes sequences through passes of one model.

    Sequences share passes and nothing else: each takes the steps that it takes alone, whatever else is in the pass.
    So a sequence can join or leave between any two steps; the engine itself remembers none of them.

    Attributes:
        forward: The model.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward

    def step(self, sequences: abc.Sequence[Sequence]) -> list[Step]:
        """Take each of the sequences one step further, in as few passes as possible.

        Those whose step computes every token share one pass, and those that read a cache another; those that suppress
        ids have two of their own. If the model is not batch-invariant, each sequence has a pass of its own.

        Args:
            sequences: At any block and step, with any options; none of them finished, none twice.

        Returns:
            A step for each. If an error is raised, none of the sequences has changed.

        Raises:
            NumericsError: The model returned something that is not finite; the error's `sequence` says for which one.
                The others can go on without it.
            ProviderError: There is not enough memory for a pass.
        """
        assert len(set(map(id, sequences))) == len(sequences), "a sequence takes one step at a time"
        plans = [sequence.plan() for sequence in sequences]
        try:
            candidates = self._predicted(plans)
        except MemoryError as error:
            raise ProviderError("there is not enough memory for a pass: give shorter or fewer texts at once") from error
        outcomes = [s.outcome(plan, found) for s, plan, found in zip(sequences, plans, candidates, strict=True)]
        return [sequence.accept(outcome) for sequence, outcome in zip(sequences, outcomes, strict=True)]

    def _predicted(self, plans: abc.Sequence[PassPlan]) -> list[Candidates]:
        """Return the candidates of each plan, in order."""
        found: dict[int, Candidates] = {}
        for group in self._groups(plans):
            found |= zip(group, self._shared(plans, group), strict=True)
        return [found[i] for i in range(len(plans))]

    def _shared(self, plans: abc.Sequence[PassPlan], group: abc.Sequence[int]) -> list[Candidates]:
        """Return the candidates of the plans of a group, from one pass.

        If it returns a number that is not finite, each of them gets a pass of its own, which tells whose it is.
        """
        try:
            return predict(self.forward, [plans[i] for i in group])
        except NumericsError as error:
            if len(group) == 1:
                error.sequence = group[0]
                raise
        return [candidates for i in group for candidates in self._shared(plans, [i])]

    def _groups(self, plans: abc.Sequence[PassPlan]) -> list[list[int]]:
        """Return which plans share a pass, by their indices: those that read a cache, or not, and suppress ids, or not.

        A sequence that suppresses none has no id to repeat where another's ids are more.
        """
        if not self.forward.batch_invariant:
            return [[i] for i in range(len(plans))]
        groups: dict[tuple[bool, bool], list[int]] = {}
        for i, plan in enumerate(plans):
            groups.setdefault((plan.kv is not None, plan.suppress_ids.size > 0), []).append(i)
        return [groups[key] for key in sorted(groups)]


def batch_size(forward: Forward, most: int = BATCH_SIZE) -> int:
    """Return how many sequences can share a pass of a model: `most`, or one if it is not batch-invariant."""
    return most if forward.batch_invariant else 1


def run(engine: Engine, sequences: Iterable[Sequence], most: int) -> Iterator[tuple[int, Step]]:
    """Run sequences to completion; yield each step with the number, from 0, of the sequence that took it.

    Arguments and errors are those of `rounds`.
    """
    for steps in rounds(engine, sequences, most):
        yield from steps


def rounds(engine: Engine, sequences: Iterable[Sequence], most: int) -> Iterator[list[tuple[int, Step]]]:
    """Run sequences to completion; yield the steps of those that share a round, each with its sequence's number.

    Args:
        engine: Runs the passes.
        sequences: In the order in which they begin; each is asked for when there is room for it.
        most: How many run at a time. When one ends, the next begins.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    assert most > 0, "at least one sequence runs at a time"
    waiting = ((number, sequence) for number, sequence in enumerate(sequences) if not sequence.finished)
    running = dict(islice(waiting, most))
    while running:
        steps = engine.step(list(running.values()))
        yield list(zip(running, steps, strict=True))
        running = {number: sequence for number, sequence in running.items() if not sequence.finished}
        running |= islice(waiting, most - len(running))


def denoise(
    forward: Forward,
    canvases: abc.Sequence[Canvas],
    config: GenerationConfig,
    special: SpecialIds,
    reader: Reader | None = None,
) -> Iterator[tuple[int, Step]]:
    """Run canvases to completion together, with the same options; yield each step with the index of its canvas.

    Each canvas takes the steps that it takes alone. (Only when texts of different lengths are infilled in several
    blocks, the reference shares the steps among as many blocks as the longest has, and so does this.)

    Args:
        forward: The model.
        canvases: At least one.
        config: The options; `max_new_tokens`, `stop` and `seed` are applied beforehand and have no effect here.
        special: The control tokens.
        reader: Reads the steps' text and, with `early_end`, tells when a canvas is done.

    Raises:
        DiffutronError: As for `Engine.step`.
    """
    blocks = max(canvas.block_count(config.block_length) for canvas in canvases)
    sequences = [Sequence(canvas, config, special, reader, blocks=blocks) for canvas in canvases]
    yield from run(Engine(forward), sequences, len(sequences))
