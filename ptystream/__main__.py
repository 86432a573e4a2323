"""``python -m ptystream``."""

import sys

from ptystream.cli import main

if __name__ == "__main__":
    sys.exit(main())
