"""docs/clients.md: the programs in it, told of another server."""

import os
import subprocess
from pathlib import Path

import pytest

from tests import markdown
from tests.clients.serving import Server
from tests.markdown import Block

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "clients.md"
ADDRESS = "http://localhost:8000"


def blocks(language: str, start: str = "") -> list[Block]:
    """Return the blocks of a language that begin with some text; there is at least one."""
    if not DOCUMENT.exists():
        pytest.skip("an installed package's tests have no documents beside them", allow_module_level=True)
    found = [block for block in markdown.blocks(markdown.read(DOCUMENT)) if block.language == language]
    found = [block for block in found if block.code.startswith(start)]
    assert found, f"no {language} begins with {start!r}"
    return found


def told(block: Block, server: Server) -> str:
    """Return the program of a block with the address of a server."""
    return block.code.replace(ADDRESS, server.root)


def printed(command: list[str], folder: Path, **environment: str) -> str:
    """Run a program as a reader would, and return what it prints, without the end of its last line."""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"} | environment
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().rstrip("\n")
