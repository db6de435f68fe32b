"""A process that holds one contender: commands come as lines on standard input, answers go as JSON lines.

    python -m contest.worker NAME WORK

It says what it can measure once it has loaded, then waits, asleep, for `first`, `generation`, `peak` (bytes, of the
whole process so far), or the name of a measure.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}


def peak() -> int:
    """Return the most bytes that were ever resident in this process, mapped pages counted."""
    status = Path("/proc/self/status").read_text("utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main(name: str, work: str) -> None:
    """Load, then serve until standard input ends."""
    os.environ.update(OFFLINE)
    with os.fdopen(os.dup(1), "w") as out:  # what libraries print must not come between the answers
        os.dup2(2, 1)
        say = answering(out)
        try:
            from contest.contenders import load

            runner = load(name, Path(work))
        except Exception:
            say(error=traceback.format_exc())
            return
        say(measures=list(runner.measures))
        commands: dict[str, Callable[[], Any]] = {"first": runner.first, "generation": runner.generation, "peak": peak}
        commands |= runner.measures
        for line in sys.stdin:
            try:
                say(value=commands[line.strip()]())
            except Exception:
                say(error=traceback.format_exc())


def answering(out: IO[str]) -> Callable[..., None]:
    """Return a function that writes its arguments as one line."""

    def say(**answer: Any) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    return say


if __name__ == "__main__":
    main(*sys.argv[1:])
