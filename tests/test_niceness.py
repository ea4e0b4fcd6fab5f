"""While the host's processors are busy a worker gives way: to adapters, and to the server."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from backscroll_worker.ops.server import embedded_url
from backscroll_worker.settings import Settings
from tests.processes import stop, wait_for, workers

OWN: Final = os.getpriority(os.PRIO_PROCESS, 0)
_NICE: Final = 19 - 3
"""Its place in /proc/PID/stat after the name, which may hold spaces and ends the second field."""

_AS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be less nice")


def niceness(process: int) -> set[int]:
    """That of each of the process's threads."""
    stats = list[str]()
    for task in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended meanwhile
            stats.append(task.read_text())
    return {int(stat.rpartition(")")[2].split()[_NICE]) for stat in stats}


@pytest.mark.parametrize(
    ("asked", "more", "worker_has"),
    [
        ({}, 0, OWN or 10),
        ({"BACKSCROLL_NICE": "0"}, 0, OWN),
        ({"BACKSCROLL_NICE": "12"}, 0, OWN or 12),
        ({}, 3, OWN + 3),  # whoever started it has decided
        pytest.param({}, -3, OWN - 3, marks=_AS_ROOT),
    ],
)
def test_a_worker_gives_way_with_all_its_threads_and_its_server_does_not(
    tmp_path: Path, asked: dict[str, str], more: int, worker_has: int
) -> None:
    settings = Settings(redis_url=None, data_dir=tmp_path, store=f"sqlite://{tmp_path}/b.db")
    command = ["nice", "-n", f"{more}", sys.executable, "-m", "backscroll_worker.cli", "worker"]
    own = {name: text for name, text in settings.environment().items() if name != "BACKSCROLL_NICE"}
    worker = subprocess.Popen(command, env={**os.environ, **own, **asked})
    try:
        wait_for((tmp_path / "b.db").exists, "the worker's store")
        with redis.Redis.from_url(embedded_url(settings)) as server:
            wait_for(lambda: workers(server), "the worker")
            about: Any = server.info("server")
            assert niceness(worker.pid) == {worker_has}
            assert niceness(about["process_id"]) == {OWN + more}
    finally:
        assert stop(worker) == 0
