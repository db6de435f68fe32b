"""python -m tests.fuzz [TARGET ...] [--seconds 60] [--seed N] [--number N]: fuzz the readers of files."""

import argparse
import sys
import time
from importlib.util import find_spec

from .checkpoints import CHECKPOINTS, TRANSFORMERS
from .supervise import Failure, fuzz, mutant, outcome
from .targets import TARGETS as BUNDLES

TARGETS = BUNDLES | CHECKPOINTS | (TRANSFORMERS if find_spec("transformers") else {})


def main() -> int:
    """Return 0 if every mutant was accepted or properly refused, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together (default: 60)")
    parser.add_argument("--seed", type=int, help="seed of the mutants (default: the time)")
    parser.add_argument("--number", type=int, help="run only this mutant, in this process, and show its error")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    seed = int(time.time()) if options.seed is None else options.seed
    if options.number is not None:
        [name] = names
        failure = outcome(TARGETS[name].prepare(), mutant(TARGETS[name], seed, options.number))
        print(failure or "passed")
        return bool(failure)
    failures = [failure for name in names for failure in fuzzed(name, seed, options.seconds / len(names))]
    print(f"{'FAILED' if failures else 'passed'}: {len(failures)} mutants of seed {seed} failed")
    return bool(failures)


def fuzzed(name: str, seed: int, seconds: float) -> list[Failure]:
    """Fuzz a target, print a summary, and return the failures."""
    outcomes = list(fuzz(TARGETS[name], seed, seconds=seconds))
    failures = [found for found in outcomes if isinstance(found, Failure)]
    print(f"{name:<16} {len(outcomes):>7} mutants, {len(failures)} failed", flush=True)
    for failure in failures[:5]:
        print(f"  --seed {failure.seed} --number {failure.number}: {failure.what.strip()[-1500:]}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
