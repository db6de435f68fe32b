"""Places among what the engine runs: one for each sequence of a request, or one for its work."""

from typing import Any, NamedTuple, TypeAlias

from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.serve.batching.jobs import Generation, Task


class SequencePlace(NamedTuple):
    """The place of one sequence.

    Attributes:
        job: Whose it is.
        choice: Its number in the job.
    """

    job: Generation
    choice: int

    @property
    def sequence(self) -> sampler.Sequence:
        """The sequence."""
        return self.job.sequences[self.choice]

    @property
    def is_over(self) -> bool:
        """Whether the sequence has ended, or nobody waits for it any more."""
        return self.sequence.finished or self.job.cancelled

    def leave(self) -> None:
        """Do nothing: a sequence holds nothing that must be closed."""


class WorkPlace(NamedTuple):
    """The place of a work.

    Attributes:
        job: The work's.
    """

    job: Task[Any]

    @property
    def is_over(self) -> bool:
        """Whether the work has ended, or nobody waits for it any more."""
        return self.job.ended or self.job.cancelled

    def leave(self) -> None:
        """Close the work."""
        self.job.close()


Place: TypeAlias = SequencePlace | WorkPlace


def places_of(job: Generation | Task[Any]) -> list[Place]:
    """Return the places that a job needs."""
    if isinstance(job, Task):
        return [WorkPlace(job)]
    return [SequencePlace(job, index) for index in range(len(job.sequences))]
