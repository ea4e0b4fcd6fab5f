"""A store whose disk fails: the worker pauses, says so, skips nothing, and goes on by itself."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.budget import tries
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.load import Load, working, writing
from tests.processes import wait_for, workers

TIMES = tries(2, deep=3)
_DISK_BYTES = 40_000_000

Break = Callable[[], None]


def pauses_and_goes_on(laboratory: Laboratory, begin: Break, mend: Break, words: str) -> None:
    """Write on while the store fails; look for the worker's word; mend it, and check all."""
    laboratory.write(50)
    laboratory.wait_until_drained()
    with writing(laboratory, Load(0, writers=2, operations_per_second=60)):
        begin()
        error = wait_for(lambda: told_error(laboratory), "the worker's state")
        time.sleep(0.5)
        mend()
        wait_for(lambda: not told_error(laboratory), "the all-clear")
    assert words in error
    wait_for(lambda: "the store works again" in laboratory.log.read_text(), "its log's line")


def told_error(laboratory: Laboratory) -> str:
    """What the worker says in Redis of its store."""
    for key in workers(laboratory.client):
        told: Any = laboratory.client.hget(key.decode(), "store_error")
        if told is not None:
            return str(told.decode())
    return ""


@pytest.mark.parametrize("trouble", ["ENOSPC write", "EIO write", "EIO fsync", "EROFS"])
def test_a_failing_disk_pauses_the_worker_until_it_recovers(
    laboratory: Laboratory, tally: Tally, trouble: str
) -> None:
    sign = laboratory.directory / "trouble"
    words = {"ENOSPC": "full|No space", "EIO": "I/O|Input/output", "EROFS": "readonly|Read-only"}
    with working(laboratory, trouble=sign):
        for _ in range(TIMES):
            pauses_and_goes_on(laboratory, lambda: put(sign, trouble), sign.unlink, "")
    assert laboratory.check() == []
    assert laboratory.log.read_text().count("the store fails: ") >= TIMES
    said = laboratory.log.read_text()
    assert any(word in said for word in words[trouble.partition(" ")[0]].split("|")), said[-500:]


def put(sign: Path, trouble: str) -> None:
    """All at once: the worker may look while it is written."""
    draft = sign.with_suffix(".draft")
    draft.write_text(trouble)
    draft.replace(sign)


def test_files_that_can_grow_no_more_pause_the_worker(laboratory: Laboratory, tally: Tally) -> None:
    """The kernel's own limit: real calls that fail, some of them half-way."""
    life = laboratory.life(burst=False)
    process = laboratory.begin(life)
    assert process.pid is not None
    pid, unlimited = process.pid, resource.RLIM_INFINITY

    def limit(size: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, unlimited))

    try:
        # Its log cannot grow either, so that only Redis tells of the pause.
        pauses_and_goes_on(laboratory, lambda: limit(0), lambda: limit(unlimited), "")
        pauses_and_goes_on(laboratory, lambda: limit(700), lambda: limit(unlimited), "")
        laboratory.wait_until_drained()
    finally:
        process.kill()
        process.join()
    assert laboratory.check() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a WAL before its checkpoint, and little more."""
    with mounted(tmp_path / "disk") as directory:
        yield directory


@contextmanager
def mounted(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_pauses_the_worker(
    server_url: str, tmp_path: Path, scheme: str, tally: Tally, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(b"x" * (_DISK_BYTES + 1))

    with Laboratory(
        server_url, tmp_path / "laboratory", scheme, 1, tally, store=small_disk / "store"
    ) as laboratory:
        with working(laboratory):
            pauses_and_goes_on(laboratory, fill, ballast.unlink, "Free some space")
        assert laboratory.check() == []


@pytest.mark.parametrize("scheme", ["sqlite"])
def test_a_database_another_process_has_locked_pauses_the_worker(
    laboratory: Laboratory, tally: Tally
) -> None:
    with working(laboratory):
        laboratory.write(5)
        laboratory.wait_until_drained()
        other = apsw.Connection(str(laboratory.directory / "store"))
        other.set_busy_timeout(5_000)  # the worker may have it for a moment
        pauses_and_goes_on(
            laboratory,
            lambda: _execute(other, "BEGIN IMMEDIATE"),
            lambda: _execute(other, "ROLLBACK"),
            "one writer",
        )
        other.close()
    assert laboratory.check() == []


def _execute(connection: apsw.Connection, sql: str) -> None:
    connection.execute(sql)
