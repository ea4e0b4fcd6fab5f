"""A reader beside the writer: what it sees, and that it is in nobody's way."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.stores.sqlite.wal import CHECKPOINT_PAGES
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    apply_all,
    contents,
    open_tested,
    requests,
    say,
)
from tests.backends.files import unprivileged
from tests.prepared import Prepared

SESSIONS: Final = 20
GROUPS: Final = 50
GROUP: Final = 420
PADDING: Final = "history " * 150  # so that the log would be three times as long as it may be

READER: Final = f"""
import sys
from backscroll_worker.testing.stores import open_tested

print("reading", flush=True)
reads, longest = 0, 0
with open_tested(sys.argv[1], read_only=True) as store:
    while longest < {GROUPS * GROUP // SESSIONS}:
        for number in range({SESSIONS}):
            numbers = [int(m.content.split()[0]) for m in store.load(f"s{{number}}")]
            assert numbers == list(range(len(numbers))), numbers
            longest = max(longest, len(numbers))
            store.search("history 7", limit=5)
            store.sessions(channel="none")
            reads += 3
print(reads)
"""

RELAY: Final = """
import sys, time, apsw

# There is always one who reads, though none for long: SQLite alone could never begin the log anew.
readers = [apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY) for _ in range(2)]
print("reading", flush=True)
while True:
    for reader, other in (readers, readers[::-1]):
        reader.execute("BEGIN")
        reader.execute("SELECT max(id) FROM messages").fetchall()
        if other.in_transaction:
            other.execute("COMMIT")
        time.sleep(0.002)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store.db'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextmanager
def reading(program: str, place: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that reads the store by now."""
    with Prepared(["-c", program, place], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"reading\n"
            yield process
        finally:
            process.kill()


def group(said: list[int]) -> list[Operation]:
    """Some messages for each session, numbered as `said` counts them."""
    operations: list[Operation] = []
    for index in range(GROUP):
        number = index % SESSIONS
        message = ChatMessage.user(f"{said[number]} {PADDING}")
        said[number] += 1
        operations.append(requests.append(f"s{number}", (message,), None))
    return operations


def test_readers_see_all_up_to_a_point_and_keep_nobody_from_writing(url: str, path: Path) -> None:
    said = [0] * SESSIONS
    log_sizes, waits = list[int](), list[float]()
    with open_tested(url) as store:
        say(store, "other", "x")
        with reading(READER, url) as one, reading(READER, url) as two, reading(RELAY, str(path)):
            for _ in range(GROUPS):
                operations = group(said)
                started = time.monotonic()
                apply_all(store, operations)
                waits.append(time.monotonic() - started)
                log_sizes.append(path.with_name("store.db-wal").stat().st_size)
            reads = [int(process.communicate(timeout=90)[0]) for process in (one, two)]
    assert min(reads) > 3 * SESSIONS  # they read while it was written
    assert max(log_sizes) < 2.5 * CHECKPOINT_PAGES * 4_096
    assert statistics.median(waits) < 2.0  # or 50 groups would have waited for the readers


@pytest.mark.parametrize("operation", ["load", "search", "sessions", "session"])
def test_a_read_leaves_no_transaction_behind(url: str, path: Path, operation: str) -> None:
    reads: dict[str, Callable[[StoreUnderTest], object]] = {
        "load": lambda reader: reader.load("s", limit=1),
        "search": lambda reader: reader.search("x", limit=1),
        "sessions": lambda reader: reader.sessions(channel="slack", limit=1),
        "session": lambda reader: reader.session("s"),
    }
    with open_tested(url) as store, open_tested(url, read_only=True) as reader:
        say(store, "s", "x", "x")
        for key in "ab":
            store.describe(key, channel="slack")
        reads[operation](reader)
        assert isinstance(store.store, SqliteBackend)
        # It would have to wait for whoever still reads what the log holds.
        busy, *_ = store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        assert not busy
        assert path.with_name("store.db-wal").stat().st_size == 0


def test_a_reader_lives_through_the_writers_going_and_coming(url: str, path: Path) -> None:
    with open_tested(url) as store:
        say(store, "s", "a")
    assert not path.with_name("store.db-wal").exists()
    with open_tested(url, read_only=True) as reader:
        assert contents(reader, "s") == ["a"]
        for content in "bc":
            with open_tested(url) as store:
                say(store, "s", content)
            assert contents(reader, "s")[-1] == content
    assert contents_of_a_new_reader(url) == ["a", "b", "c"]


def test_a_reader_who_may_not_write_needs_a_worker_and_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        url = f"sqlite://{directory / 'store.db'}"
        with open_tested(url) as store:
            say(store, "s", "a")
            for file in directory.glob("store.db*"):
                file.chmod(0o644)
            directory.chmod(0o555)
            with unprivileged():
                assert contents_of_a_new_reader(url) == ["a"]
            directory.chmod(0o755)
        directory.chmod(0o555)
        advice = pytest.raises(StoreUnavailableError, match="while no worker has the store open")
        with unprivileged(), advice:
            contents_of_a_new_reader(url)
        assert [file.name for file in directory.glob("store.db*")] == ["store.db"]
        directory.chmod(0o755)


def contents_of_a_new_reader(url: str) -> list[str]:
    with open_tested(url, read_only=True) as reader:
        return contents(reader, "s")


def test_an_empty_file_is_no_store_to_a_reader(url: str, path: Path) -> None:
    path.touch()
    with pytest.raises(StoreUnusableError, match="a worker that opens it"):
        open_tested(url, read_only=True)
    assert path.read_bytes() == b""
