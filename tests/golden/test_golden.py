"""The recorded behaviour of the reference; `tests/golden/README.md` says what each file pins."""

from pathlib import Path

import pytest

from tests.golden.__main__ import main
from tests.golden.replay import cases

GOLDEN = Path(__file__).parent
CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.exporter] if case.name.startswith("tiny") else [])
    for case in cases(GOLDEN)
]


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    case.check()


def test_every_recorded_case_is_found():
    assert len(CASES) == 1417


def test_no_case_at_all_is_a_failure(tmp_path, capsys):
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.endswith("0 passed, 0 failed\n")


def test_a_failing_case_is_a_failure(tmp_path, capsys):
    (tmp_path / "schedule.json").write_text('{"linear": {"4,3": [1, 1, 2], "4,2": [1, 3]}}')
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.endswith("1 passed, 1 failed\n")
