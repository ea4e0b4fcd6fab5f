"""`backscroll up`: server, worker, scheduler and dashboard in one terminal, until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from backscroll.transport.connection import hide_password
from backscroll_worker.ops.server import RunningServer, serving
from backscroll_worker.ops.supervisor import Part, Supervisor
from backscroll_worker.settings import Settings

# The Procfile's processes; a test keeps the two consistent. Not read from the file, as the one in
# the current directory may be another project's.
PROCESSES: Final = {name: f"backscroll {name}" for name in ("worker", "scheduler", "dashboard")}


def run_up(settings: Settings, console: Console) -> int:
    """Run the processes until Ctrl-C; returns the exit code.

    A process that ends is restarted. Only when worker or scheduler end because of unusable
    settings, everything is stopped, with that exit code.
    """
    taken = _why_taken(settings.dashboard_host, settings.dashboard_port)
    with serving(settings, adopts=True) as server:
        _introduce(settings, server, console, taken)
        parts = [
            Part(name, command, is_essential=name != "dashboard")
            for name, command in PROCESSES.items()
            if name != "dashboard" or taken is None
        ]
        return Supervisor(parts, environment(settings, server.url)).run(server)


def _introduce(
    settings: Settings, server: RunningServer, console: Console, taken: str | None
) -> None:
    address = f"{settings.dashboard_host}:{settings.dashboard_port}"
    dashboard = (
        f"http://{address}"
        if taken is None
        else f"not started: cannot listen on {address}: {taken}; the others run without it.\n"
        "           Set BACKSCROLL_DASHBOARD_PORT to a free port"
    )
    url = hide_password(server.url)
    console.print(
        f"server     {url}\n"
        f"           adapters on this machine: BACKSCROLL_REDIS_URL={url}\n"
        f"store      {settings.store}\n"
        f"dashboard  {dashboard}\n"
        "Ctrl-C stops everything; jobs in flight are finished first.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _why_taken(host: str, port: int) -> str | None:
    """Why the dashboard cannot listen there; None if it can."""
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server((host, port), family=family):
            return None
    except OSError as error:
        return error.strerror or str(error)


def environment(settings: Settings, url: str) -> dict[str, str]:
    """The environment by which child processes find this server, store and `backscroll`."""
    own_commands = Path(sys.executable).parent
    return {
        **os.environ,
        **settings.environment(),
        "PATH": f"{own_commands}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "BACKSCROLL_REDIS_URL": url,
    }
