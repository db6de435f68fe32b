"""The Python in examples/README.md, run as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "examples" / "README.md"

if not README.exists():
    pytest.skip("the examples are in a checkout alone", allow_module_level=True)

BLOCKS = [
    code for code in re.findall("```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL) if "optimum" not in code
]


@pytest.mark.parametrize("code", BLOCKS, ids=["loop", "graph"])
def test_it_answers(code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(code, {})
    assert capsys.readouterr().out == "on yedi\n"
