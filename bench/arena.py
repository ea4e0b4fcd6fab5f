"""The environment of one measurement: an empty server, a new store, and processes that use both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from backscroll.contract.errors import BackscrollError
from backscroll_worker.settings import Settings

_DEADLINE_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.005


class BenchmarkFailedError(BackscrollError):
    """A measurement failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Arena:
    """One server and one store, both empty."""

    url: str
    directory: Path
    store: str

    @property
    def settings(self) -> Settings:
        return Settings(redis_url=self.url, data_dir=self.directory, store=self.store)

    @property
    def store_path(self) -> Path:
        return Path(self.store.partition("://")[2])

    def run(self, *arguments: str) -> None:
        """Run `python -m arguments` to its end; raises when it fails."""
        with self._log().open("ab") as log:
            code = subprocess.call(
                [sys.executable, "-m", *arguments], env=self.environment(), stdout=log, stderr=log
            )
        if code != 0:
            raise self._failed(arguments, code)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`python -m arguments` as a child process, ended afterwards."""
        with self._log().open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment(), stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            code = process.poll()
            if code is None:
                process.terminate()
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if code is not None:
            raise self._failed(arguments, code)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BACKSCROLL_REDIS_URL": self.url,
            "BACKSCROLL_STORE": self.store,
            "BACKSCROLL_DATA_DIR": str(self.directory),
            "BACKSCROLL_LOG_LEVEL": "WARNING",
        }

    def _log(self) -> Path:
        return self.directory / "process.log"

    def _failed(self, arguments: tuple[str, ...], code: int) -> BenchmarkFailedError:
        said = self._log().read_text(errors="replace").strip()[-2_000:]
        return BenchmarkFailedError(f"{' '.join(arguments)} ended with exit code {code}: {said}")


@contextmanager
def arena(url: str, parent: Path, store: str = "sqlite") -> Iterator[Arena]:
    """An arena with a store of the kind `store`; everything is deleted afterwards."""
    with redis.Redis.from_url(url) as client:
        _empty(client)
    directory = parent / "arena"
    directory.mkdir()
    name = "backscroll.db" if store == "sqlite" else "sessions"
    try:
        yield Arena(url, directory, f"{store}://{directory / name}")
    finally:
        shutil.rmtree(directory)


def _empty(client: redis.Redis) -> None:
    """Empty the server, and wait until it has freed the memory."""
    client.flushall()

    def is_free() -> bool:
        memory: dict[str, Any] = client.info("memory")
        return int(memory["lazyfree_pending_objects"]) == 0

    wait_until(is_free, "the server's release of memory")


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    seconds: float = _DEADLINE_SECONDS,
    poll_seconds: float = _POLL_SECONDS,
) -> float:
    """The time at which `condition` was first seen to hold, on the monotonic clock."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailedError(f"{what} did not happen within {seconds:g} s")
        time.sleep(poll_seconds)
    return time.monotonic()


def wait_while_it_grows(
    count: Callable[[], int], wanted: int, process: subprocess.Popen[bytes], what: str
) -> float:
    """The time at which `count` was first seen to be `wanted`, or `process` to have ended.

    A slow disk may take as long as it needs; the wait ends only if there is no progress.
    """
    seen = -1
    while process.poll() is None and (now := count()) < wanted:
        if now == seen:
            raise BenchmarkFailedError(f"{what}: {now:,} of {wanted:,}, and no more progress")
        seen = now
        with suppress(BenchmarkFailedError):
            wait_until(lambda: process.poll() is not None or count() >= wanted, what)
    return time.monotonic()
