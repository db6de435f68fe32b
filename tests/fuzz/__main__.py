"""python -m tests.fuzz [TARGET ...] [--seconds 60] [--seed N] [--number N]: try mutants of files."""

import argparse
import sys
import time

from .checkpoints import CHECKPOINTS
from .supervise import Failure, fuzz, mutant, outcome
from .targets import TARGETS as BUNDLES

TARGETS = BUNDLES | CHECKPOINTS


def main() -> int:
    """Return 0 if every mutant fared as it should, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, help="of the mutants (default: the time)")
    parser.add_argument("--number", type=int, help="try this one alone, here, and show what it raises")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    seed = int(time.time()) if options.seed is None else options.seed
    if options.number is not None:
        [name] = names
        said = outcome(TARGETS[name].prepare(), mutant(TARGETS[name], seed, options.number))
        print(said or "as it should be")
        return bool(said)
    failures = [failure for name in names for failure in tried(name, seed, options.seconds / len(names))]
    print(f"{'FAILED' if failures else 'passed'}: {len(failures)} mutants of seed {seed} fared as they should not")
    return bool(failures)


def tried(name: str, seed: int, seconds: float) -> list[Failure]:
    """Return the mutants of a target that failed, and print how it went."""
    outcomes = list(fuzz(TARGETS[name], seed, seconds=seconds))
    failures = [found for found in outcomes if isinstance(found, Failure)]
    print(f"{name:<16} {len(outcomes):>7} mutants, {len(failures)} failed", flush=True)
    for failure in failures[:5]:
        print(f"  --seed {failure.seed} --number {failure.number}: {failure.what.strip()[-1500:]}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
