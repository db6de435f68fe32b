"""The programs in docs/clients.md print what stands there."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.document import blocks, printed, told

MODULES = Path(__file__).parent / "node" / "node_modules"  # by `npm ci --prefix tests/clients/node`


@pytest.mark.parametrize(
    ("package", "start"),
    [("openai", "from openai"), ("litellm", "import litellm"), ("langchain_openai", "from langchain_openai")],
)
def test_in_python(server, tmp_path, package, start):
    pytest.importorskip(package)
    [block] = blocks("python", start)
    assert printed([sys.executable, "-c", told(block, server)], tmp_path) == (block.output or "").rstrip("\n")


@pytest.mark.skipif(not (MODULES.is_dir() and shutil.which("node")), reason="needs Node, and what npm brings")
@pytest.mark.parametrize("start", ["import OpenAI", "import { createOpenAICompatible }"])
def test_in_javascript(server, tmp_path, start):
    [block] = blocks("js", start)
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "program.mjs").write_text(told(block, server), "utf-8")
    assert printed(["node", "program.mjs"], tmp_path) == (block.output or "").rstrip("\n")


def test_llm(server, tmp_path):
    pytest.importorskip("llm")
    [models], [command] = blocks("yaml"), blocks("sh", "llm")
    (tmp_path / "extra-openai-models.yaml").write_text(told(models, server), "utf-8")
    line = command.code.replace("llm", f"{sys.executable} -m llm", 1)
    assert printed(["bash", "-c", line], tmp_path, LLM_USER_PATH=str(tmp_path)) == (command.output or "").rstrip("\n")
