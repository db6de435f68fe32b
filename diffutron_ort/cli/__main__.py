"""`python -m diffutron_ort.cli`, which is `python -m diffutron_ort`."""

import sys

from diffutron_ort.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
