"""`backscroll up`: server, worker, scheduler and dashboard in one terminal, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from honcho.manager import Manager
from honcho.printer import Printer
from rich.console import Console

from producer.settings import hide_password
from worker.server import running_server
from worker.settings import Settings

# The Procfile's processes; a test keeps the two in step. Not read from a file, since the one in
# the current directory may be another project's.
PROCESSES: Final = {name: f"backscroll {name}" for name in ("worker", "scheduler", "dashboard")}

_STOPPED_ON_PURPOSE: Final = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def run_up(settings: Settings, console: Console) -> int:
    """Run the processes until one ends or Ctrl-C; returns the exit code of the one that failed."""
    with running_server(settings) as url:
        manager = Manager(Printer(_Output()))
        for name, command in PROCESSES.items():
            # In the shell's place: else the code that is shown at the end is the shell's.
            manager.add_process(name, f"exec {command}", env=environment(settings, url))
        console.print(
            f"server     {hide_password(url)}\n"
            f"           adapters on this machine: BACKSCROLL_REDIS_URL={hide_password(url)}\n"
            f"store      {settings.store}\n"
            f"dashboard  http://{settings.dashboard_host}:{settings.dashboard_port}\n"
            "Ctrl-C stops everything; what is in flight is finished first.",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
        manager.loop()
    code = int(manager.returncode or 0)
    return 0 if code in _STOPPED_ON_PURPOSE else code


class _Output:
    """Standard error for honcho; when nobody reads it any more, everything stops."""

    def write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
        except BrokenPipeError:
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            os.kill(os.getpid(), signal.SIGTERM)  # honcho stops its processes on that

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def environment(settings: Settings, url: str) -> dict[str, str]:
    """What a child process needs to find the same server and store, and this `backscroll`."""
    own_commands = Path(sys.executable).parent
    archive = {} if settings.archive is None else {"BACKSCROLL_ARCHIVE": str(settings.archive)}
    accept = {} if not settings.accept_store else {"BACKSCROLL_ACCEPT_STORE": settings.accept_store}
    return {
        **os.environ,
        **accept,
        "PATH": f"{own_commands}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "BACKSCROLL_REDIS_URL": url,
        "BACKSCROLL_DATA_DIR": str(settings.data_dir),
        "BACKSCROLL_STORE": settings.store,
        "BACKSCROLL_QUEUE": settings.queue,
        "BACKSCROLL_DASHBOARD_PORT": str(settings.dashboard_port),
        **archive,
    }
