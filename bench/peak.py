"""Runs a command and prints its peak memory in KiB: `python -m bench.peak COMMAND ...`.

A separate small process is needed: a child's peak includes the memory of the process it was forked
from.
"""

from __future__ import annotations

import resource
import subprocess
import sys

if __name__ == "__main__":
    code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    sys.exit(code)
