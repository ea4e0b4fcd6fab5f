"""The `backscroll` command.

`main` is the whole command line. Where only the adapter's part is installed, it prints what to
install.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from backscroll_worker.ops.exit_codes import ExitCode

_WORKER_EXTRA = ("apsw", "click", "peewee", "playhouse", "rich", "rq", "zstandard")

try:
    from backscroll_worker.cli.program import main
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in _WORKER_EXTRA:
        raise

    def main(**_options: object) -> NoReturn:  # type: ignore[misc]
        """Say what to install."""
        sys.stderr.write(
            "backscroll: only the adapter's part is installed; "
            "run pip install 'backscroll[worker]'\n"
        )
        sys.exit(ExitCode.USAGE)


__all__ = ["main"]
