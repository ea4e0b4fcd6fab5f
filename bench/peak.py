"""Runs a command and prints the most memory it took, in KiB: `python -m bench.peak COMMAND ...`.

A process counts what it was forked from, and whoever measures has grown large.
"""

from __future__ import annotations

import resource
import subprocess
import sys

if __name__ == "__main__":
    code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    sys.exit(code)
