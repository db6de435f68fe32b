"""`diffutron-ort` and `python -m diffutron_ort`: the process around the command line, whose imports take a while."""

import os
import signal
import sys


def main() -> int:
    """Run the command line as the whole work of this process, and return its exit code."""
    ends = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ends:  # amid imports, an exception would be shown or taken for a missing package
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from diffutron_ort.cli.terminal import FAILED, guarded, program, say

    try:
        from diffutron_ort.cli.main import load
        from diffutron_ort.cli.main import main as run

        load(sys.argv[1:])
    except Exception as error:  # a broken package, or no memory or descriptors left
        with guarded():
            say(f"cannot start, {type(error).__name__}: {error}")
        return FAILED
    return program(run, ends)


if __name__ == "__main__":
    sys.exit(main())
