"""A few mutants of every file of a checkpoint; `python -m tests.fuzz` tries many."""

import pytest

from tests.fuzz.checkpoints import CHECKPOINTS
from tests.fuzz.supervise import Failure, fuzz


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_few_mutants_of_each_file(name: str) -> None:
    outcomes = list(fuzz(CHECKPOINTS[name], 0, seconds=300, most=20))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert len(outcomes) == 20
