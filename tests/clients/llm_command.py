"""The command `llm`, in a process and a home of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Llm:
    """The command.

    Attributes:
        home: Where it keeps its files.
    """

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self._environment = os.environ | {"LLM_USER_PATH": str(home), "PYTHONIOENCODING": "utf-8"} | environment

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run the command, and return what it prints, or, with another exit code than 0, its message."""
        command = [sys.executable, "-m", "llm", *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    def logged(self) -> list[dict[str, Any]]:
        """Return what was asked and answered, the oldest first."""
        return json.loads(self("logs", "--json", "-n", "0"))
