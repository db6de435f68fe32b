"""What documents say of this repository is so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECURITY = ROOT / "SECURITY.md"


@pytest.mark.skipif(not SECURITY.exists(), reason="an installed package's tests have no documents beside them")
def test_every_promise_of_security_names_a_test_that_is_there():
    text = SECURITY.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text("utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not function or function in functions, f"{file} has no {function}"
