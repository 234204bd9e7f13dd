"""``python -m powercut`` is the command ``powercut``."""

import sys

from powercut.cli import main

if __name__ == "__main__":
    sys.exit(main())
