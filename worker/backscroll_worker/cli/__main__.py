"""`python -m backscroll_worker.cli`: the same as `backscroll`."""

from __future__ import annotations

from backscroll_worker.cli import main

if __name__ == "__main__":
    main(prog_name="backscroll")
