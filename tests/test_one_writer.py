"""A store has one writer, by whatever name it is reached and whatever becomes of its files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage, Producer, StoreUnavailableError
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import StoreUnderTest, open_tested, say
from tests.prepared import Prepared, run_prepared
from tests.processes import burst, contents, running_worker, spawn, stop, wait_for

HOLD = """
import sys
from backscroll_worker.stores import open_store
store = open_store(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


# As the version before this one locks: the file beside the store, and nothing else.
_HOLD_AS_BEFORE = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = ["-c", program, *arguments]
    with Prepared(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path / 'here' / 'store'}"


@pytest.fixture
def path(url: str) -> Path:
    return Path(url.split("://")[1])


@pytest.fixture
def store(url: str) -> Iterator[StoreUnderTest]:
    with open_tested(url) as store:
        yield store


def lock_file_of(path: Path) -> Path:
    return path / ".lock" if path.is_dir() else path.with_name("store.lock")


def set_aside(path: Path) -> Path:
    """Move the store away, with all that belongs to it."""
    place = path.with_name("elsewhere")
    _rename(path, place)
    return place


def put_back(path: Path) -> None:
    _rename(path.with_name("elsewhere"), path)


def _rename(old: Path, new: Path) -> None:
    for file in (old, *old.parent.glob(f"{old.name}-*")):
        file.rename(file.with_name(file.name.replace(old.name, new.name)))


def test_a_store_open_in_another_process_is_not_opened_for_writing(url: str) -> None:
    with (
        another_process(HOLD, url) as other,
        pytest.raises(StoreUnavailableError, match=f"process {other.pid}; a store has one writer"),
    ):
        open_tested(url)


def test_a_removed_lock_file_lets_no_second_writer_in(url: str, path: Path) -> None:
    with another_process(HOLD, url) as other:
        lock_file_of(path).unlink()
        with pytest.raises(StoreUnavailableError, match=f"process {other.pid}; a store has one"):
            open_tested(url)


@pytest.mark.parametrize("what", ["moved", "replaced", "deleted"])
def test_nothing_is_acknowledged_into_a_store_nobody_will_find(
    store: StoreUnderTest, url: str, path: Path, what: str
) -> None:
    say(store, "k", "a")
    if url.startswith("jsonl"):  # no journal is open now
        store.close()
        store = open_tested(url)
    if what == "deleted":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        place = set_aside(path)
        if what == "replaced":
            shutil.copytree(place, path) if place.is_dir() else shutil.copy(place, path)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="moved, replaced or deleted"):
            say(store, "k", "b")
    assert what == "replaced" or not path.exists()
    store.close()


def test_a_store_that_comes_back_is_written_again(
    store: StoreUnderTest, path: Path, url: str
) -> None:
    say(store, "k", "a")
    set_aside(path)
    with pytest.raises(StoreUnavailableError, match="put it back"):
        say(store, "k", "b")
    put_back(path)
    say(store, "k", "c")
    assert [message.content for message in store.load("k")] == ["a", "c"]


def test_a_store_moved_while_a_group_is_committed_is_not_acknowledged(
    store: StoreUnderTest, url: str, path: Path
) -> None:
    from backscroll_worker.testing.stores import requests  # noqa: PLC0415

    say(store, "k", "a")
    operation = requests.append("k", (ChatMessage.user("b"),), None)
    with pytest.raises(StoreUnavailableError, match=r"moved, replaced or deleted|No such file"):
        store.apply([operation], prepare_next=lambda: _rename(path, path.with_name("elsewhere")))
    put_back(path)
    store.apply([operation])  # whether or not it was stored
    assert [message.content for message in store.load("k")] == ["a", "b"]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("then", ["is written to", "idles"])
def test_what_was_in_a_log_that_was_removed_outlives_a_kill(
    tmp_path: Path, suffix: str, then: str
) -> None:
    program = f"""
import os, sys
from backscroll_worker.testing.stores import say
from backscroll_worker.testing.stores import open_tested
store = open_tested("sqlite://{tmp_path}/b.db")
say(store, "k", "a")
for _ in range(3):
    store.maintain_while_idle()
os.unlink("{tmp_path}/b.db{suffix}")
if {then == "idles"}:
    store.maintain_while_idle()
else:
    say(store, "k", "b")
os.kill(os.getpid(), 9)
"""
    run_prepared("-c", program)
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
        told = [message.content for message in store.load("k")]
        assert told == (["a"] if then == "idles" else ["a", "b"])
        assert store.verify(deep=True) == []


def test_a_removed_lock_file_is_put_back_and_keeps_the_old_version_out(
    store: StoreUnderTest, path: Path
) -> None:
    lock_file = lock_file_of(path)
    say(store, "k", "a")
    lock_file.unlink()
    say(store, "k", "b")
    done = run_prepared("-c", _HOLD_AS_BEFORE, str(lock_file))
    assert "BlockingIOError" in done.stderr


def test_an_old_worker_that_got_the_lock_file_is_not_written_beside(
    store: StoreUnderTest, path: Path
) -> None:
    lock_file = lock_file_of(path)
    say(store, "k", "a")
    lock_file.unlink()
    with another_process(_HOLD_AS_BEFORE, str(lock_file)):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="one writer"):
                say(store, "k", "b")
    say(store, "k", "c")
    assert [message.content for message in store.load("k")] == ["a", "c"]


def test_an_old_worker_keeps_a_new_one_out(url: str, path: Path) -> None:
    lock_file = path / ".lock" if url.startswith("jsonl") else path.with_name("store.lock")
    lock_file.parent.mkdir(parents=True)
    with (
        another_process(_HOLD_AS_BEFORE, str(lock_file)),
        pytest.raises(StoreUnavailableError, match="one writer"),
    ):
        open_tested(url)


def test_a_forked_child_neither_writes_nor_keeps_the_lock(url: str) -> None:
    program = f"""
import os, signal
from backscroll import StoreUnusableError
from backscroll_worker.testing.stores import say
from backscroll_worker.testing.stores import open_tested
store = open_tested({url!r})
if os.fork():
    signal.pause()
try:
    say(store, "k", "from the child")
except StoreUnusableError as error:
    print(error, os.getpid(), flush=True)
signal.pause()
"""
    with Prepared(["-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        *told, child = parent.stdout.readline().split()
        parent.kill()
        parent.wait()
        try:
            assert " ".join(told).endswith("open it after the fork")
            with another_process(HOLD, url):  # while the child lives
                pass
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_sqlites_own_locks_outlive_a_second_attempt_to_lock_the_store(tmp_path: Path) -> None:
    """To close any descriptor of the file would drop them, and another program the log."""
    url = f"sqlite://{tmp_path}/b.db"
    with open_tested(url) as store:
        say(store, "k", "a")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="one writer"):
                open_tested(url)
        open_tested(url, read_only=True).close()
        open_tested(f"sqlite://{tmp_path}/another.db").close()
        close = (
            "import apsw, sys; c = apsw.Connection(sys.argv[1]);"
            "c.execute('SELECT count(*) FROM messages').get; c.close()"
        )
        assert run_prepared("-c", close, f"{tmp_path}/b.db").returncode == 0
        assert (tmp_path / "b.db-wal").exists()
        say(store, "k", "b")
        assert [message.content for message in store.load("k")] == ["a", "b"]


def test_a_store_stays_locked_until_closed_though_its_lock_went_first(url: str) -> None:
    with open_tested(url) as store:
        store._lock_file.close()
        assert run_prepared("-c", HOLD, url).returncode != 0
    with another_process(HOLD, url):
        pass


def test_a_standby_whose_lock_file_was_removed_takes_over_all_the_same(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    """Three workers, of which the third finds another lock file than the first two."""
    path = Path(settings.store.removeprefix("sqlite://"))
    with running_worker(settings, client, log) as first:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        second = spawn(settings, "worker", log=log)
        wait_for(lambda: log.read_text().count("as its standby") == 1, "the standby")
        path.with_name(f"{path.name}.lock").unlink()
        third = spawn(settings, "worker", log=log)
        wait_for(lambda: log.read_text().count("as its standby") == 2, "the other standby")
        first.kill()
        wait_for(lambda: log.read_text().count("storing queue") == 2, "one of them to take over")
        producer.append("k", ChatMessage.user("b"), ack="stored")
        assert log.read_text().count("storing queue") == 2
        for process in (second, third):
            process.kill()
            process.wait()
    assert contents(settings, "k") == ["a", "b"]


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_worker_waits_for_a_moved_store_and_loses_nothing(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path, scheme: str
) -> None:
    path = Path(settings.data_dir / "store")
    settings = replace(settings, store=f"{scheme}://{path}")
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        set_aside(path)
        producer.append("k", ChatMessage.user("b"))
        wait_for(lambda: "was moved" in log.read_text(), "the worker to notice")
        stop(process)
    assert not path.exists()
    put_back(path)
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["a", "b"]
