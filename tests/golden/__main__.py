"""`python -m tests.golden [DIR]`: replay every recorded case of a folder; exit code 1 if one fails or none is there."""

import sys
from pathlib import Path

from tests.golden.replay import Case, cases


def main(folder: Path) -> int:
    """Print each failure and a closing count, and return the exit code."""
    results = [_passes(case) for case in cases(folder)]
    failed = results.count(False)
    if not results:
        print(f"no recorded case in {folder}")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 0 if results and not failed else 1


def _passes(case: Case) -> bool:
    try:
        case.check()
    except Exception as error:
        print(f"FAILED {case.name}: {type(error).__name__}: {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
