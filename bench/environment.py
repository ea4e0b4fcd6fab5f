"""The environment of the figures: the machine, the versions, the disk."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import apsw
import redis

_PACKAGES: Final = (
    "rq", "redis", "hiredis", "orjson", "apsw", "peewee", "huey", "dramatiq", "celery", "kombu",
    "taskiq", "taskiq-redis", "openai-agents", "aiosqlite", "sqlalchemy",
)  # fmt: skip


def describe_environment(url: str, directory: Path) -> dict[str, Any]:
    """The environment of a run."""
    with redis.Redis.from_url(url) as client:
        server: dict[str, Any] = client.info("server")
        persistence: dict[str, Any] = client.config_get("append*")
    name = "valkey" if "valkey_version" in server else "redis"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(directory),
        "python": platform.python_version(),
        "server": f"{name} {server[f'{name}_version']}",
        "appendonly": f"{persistence['appendonly']}, fsync {persistence['appendfsync']}",
        "sqlite": apsw.sqlite_lib_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _file_system(directory: Path) -> str:
    """The type of the file system; on a tmpfs a commit costs nothing and figures mean little."""
    found = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"
