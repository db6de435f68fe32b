"""A few mutants of every file of a checkpoint; `python -m tests.fuzz` tries many."""

import pytest

from tests.fuzz.checkpoints import CHECKPOINTS, TRANSFORMERS
from tests.fuzz.supervise import Failure, fuzz

TARGETS = CHECKPOINTS | TRANSFORMERS


@pytest.mark.parametrize(
    "name", [*CHECKPOINTS, *(pytest.param(name, marks=pytest.mark.torch) for name in TRANSFORMERS)]
)
def test_a_few_mutants_of_each_file(name: str) -> None:
    outcomes = list(fuzz(TARGETS[name], 0, seconds=300, most=20))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert len(outcomes) == 20
