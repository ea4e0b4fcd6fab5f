"""A database that other programs overwrite or write to while it is open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backscroll import ChatMessage, StoreUnavailableError, StoreUnusableError
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    contents,
    open_tested,
    requests,
    say,
)
from tests.prepared import Prepared, run_prepared
from tests.processes import wait_for

_COPY = """
import apsw, sys
source = apsw.Connection(sys.argv[1])
if sys.argv[3] == "vacuum":
    source.execute("VACUUM INTO ?", (sys.argv[2],))
else:
    target = apsw.Connection(sys.argv[2])
    with target.backup("main", source, "main") as backup:
        backup.step()
    target.close()
source.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.db"


@pytest.fixture
def store(path: Path) -> Iterator[StoreUnderTest]:
    with open_tested(f"sqlite://{path}") as store:
        say(store, "k", "a")
    with open_tested(f"sqlite://{path}") as store:
        yield store


def another_process(program: str, *arguments: str | Path) -> None:
    """To open the file in this one would drop the locks that SQLite has on it."""
    assert run_prepared("-c", program, *map(str, arguments)).returncode == 0


def checkpoint(path: Path) -> None:
    another_process(
        "import apsw, sys; c = apsw.Connection(sys.argv[1]);"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()",
        path,
    )


def fill(store: StoreUnderTest) -> None:
    """So that the database's first page changes."""
    store.apply([requests.append("other", (ChatMessage.user("x" * 50_000),), None)])


@pytest.mark.parametrize("how", ["vacuum", "backup", "cp"])
def test_a_backup_copied_over_an_open_database_is_not_written_to(
    store: StoreUnderTest, path: Path, tmp_path: Path, how: str
) -> None:
    fill(store)
    checkpoint(path)
    copy = tmp_path / "copy.db"
    another_process(_COPY, path, copy, how) if how != "cp" else subprocess.run(
        ["cp", path, copy], check=True
    )
    with open_tested(f"sqlite://{path}", read_only=True) as reader:
        had = contents(reader, "k")
    for _ in range(2):  # as the worker does when it is started again
        store.close()
        store = open_tested(f"sqlite://{path}")
        fill(store)
        checkpoint(path)
    say(store, "k", "b")
    subprocess.run(["cp", copy, path], check=True)
    for _ in range(2):
        with pytest.raises(StoreUnusableError, match=r"was overwritten .* Restart"):
            say(store, "k", "c")
    store.close()
    with open_tested(f"sqlite://{path}") as store:
        assert contents(store, "k") == had == ["a"]
        assert store.verify(deep=True) == []
    assert path.with_name("b.db-wal.overwritten").exists()


@pytest.mark.parametrize("how", ["truncated", "another file"])
def test_a_database_that_is_no_more_is_not_written(
    store: StoreUnderTest, path: Path, how: str
) -> None:
    say(store, "k", "b")
    command = ["truncate", "-s0"] if how == "truncated" else ["cp", sys.executable]
    subprocess.run([*command, str(path)], check=True)
    with pytest.raises(StoreUnusableError, match="was overwritten"):
        say(store, "k", "c")


@pytest.mark.parametrize("then", ["is written to", "is closed"])
@pytest.mark.parametrize("size", [0, 5_000])
def test_a_log_that_was_cut_off_takes_nothing_of_the_database_along(
    store: StoreUnderTest, path: Path, then: str, size: int
) -> None:
    checkpoint(path)
    say(store, "k", "b")
    subprocess.run(["truncate", f"-s{size}", f"{path}-wal"], check=True)
    if then == "is written to":
        for _ in range(2):
            with pytest.raises(StoreUnusableError, match=r"-wal was truncated .* lost"):
                say(store, "k", "c")
    store.close()
    with open_tested(f"sqlite://{path}") as again:
        assert contents(again, "k") == ["a"]
        assert again.verify(deep=True) == []


def test_what_another_program_writes_is_not_taken_for_what_was_remembered(
    store: StoreUnderTest, path: Path, tmp_path: Path
) -> None:
    another_process(_COPY, path, tmp_path / "copy.db", "vacuum")
    for _ in range(3):  # so that its change counter is larger than the copy's
        fill(store)
        checkpoint(path)
        another_process("import apsw, sys; apsw.Connection(sys.argv[1]).execute('VACUUM')", path)
    say(store, "k", "b", "c")
    say(store, "other", "x")
    another_process(_COPY, tmp_path / "copy.db", path, "backup")  # as sqlite3's .restore does
    say(store, "k", "d")
    checkpoint(path)
    say(store, "other", "y")
    assert contents(store, "k") == ["a", "d"]
    assert contents(store, "other") == ["y"]
    assert store.verify(deep=True) == []


def said(store: StoreUnderTest, content: str) -> bool:
    """Whether it was stored; as SQLite's locks are not fair, a worker may have to try again."""
    try:
        say(store, "k", content)
    except StoreUnavailableError:
        return False
    return True


def test_other_programs_may_checkpoint_the_log_at_any_moment(
    store: StoreUnderTest, path: Path
) -> None:
    program = """
import apsw, sys, time
c = apsw.Connection(sys.argv[1])
print("on", flush=True)
while True:
    for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
        try:
            c.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except apsw.BusyError:
            pass
    time.sleep(0.005)
"""
    with Prepared(["-c", program, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            for number in range(100):
                wait_for(lambda: said(store, f"{number} {'x' * 5_000}"), "the lock")  # noqa: B023
        finally:
            other.kill()
    assert len(contents(store, "k")) == 101


def test_maintenance_goes_on_after_its_log_was_removed(path: Path) -> None:
    clock = Clock()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        say(store, "k", "a")
        clock.advance(hours=2)
        path.with_name("b.db-wal").unlink()
        assert finish(store.cleanup(1)).sessions == 1
        assert store.verify() == []
