"""What the SQLite store is besides a store: its pragmas, versions, and what it refuses."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite import SqliteBackend, schema
from backscroll_worker.stores.sqlite.committer import Committer
from backscroll_worker.stores.sqlite.write_batch import Group
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    open_tested,
    requests,
    say,
)
from tests.backends.files import read_only_directory, unprivileged


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store.db'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def tampering(path: Path, store: StoreUnderTest) -> Iterator[apsw.Connection]:
    """Another connection to the store, which keeps none of its rules."""
    say(store, "s", "a", "b")
    store.close()
    with closing(apsw.Connection(str(path))) as connection:
        yield connection


def pragma(store: StoreUnderTest, name: str) -> Any:
    """As the store's own connection has it; most pragmas are a connection's, not the file's."""
    assert isinstance(store.store, SqliteBackend)
    return store._connection.pragma(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("auto_vacuum", 2),
        ("user_version", schema.VERSION),
        ("application_id", int.from_bytes(b"BkSc", "big")),
    ],
)
def test_the_pragmas_are_set_at_first_and_ever_after(
    open_store: Open, name: str, value: object
) -> None:
    for _ in range(2):
        with open_store() as store:
            assert pragma(store, name) == value


def test_the_write_ahead_log_is_bounded(store: StoreUnderTest) -> None:
    assert 0 < pragma(store, "journal_size_limit") <= 64 * 1024 * 1024


def test_a_newer_version_is_refused(path: Path, tampering: apsw.Connection) -> None:
    tampering.pragma("user_version", schema.VERSION + 1)
    for read_only in (False, True):
        with pytest.raises(StoreUnusableError, match="written by a newer version"):
            open_tested(f"sqlite://{path}", read_only=read_only)


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE theirs(x)")
    before = path.read_bytes()
    with pytest.raises(StoreUnusableError, match="not a Backscroll store"):
        open_tested(f"sqlite://{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 99])
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreUnusableError, match="backup"):
        open_tested(f"sqlite://{path}")
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(path: Path, url: str) -> None:
    path.touch()
    with open_tested(url) as store:
        say(store, "s", "a")
        assert store.verify() == []


def test_an_older_version_is_migrated_and_keeps_its_messages(
    path: Path, url: str, tampering: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampering.close()

    def step(database: APSWDatabase) -> None:
        database.execute_sql("ALTER TABLE sessions ADD COLUMN colour TEXT")

    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION - 1, step)
    with pytest.raises(StoreUnusableError, match="opens it for writing migrates it"):
        open_tested(url, read_only=True)
    for _ in range(2):
        with open_tested(url) as store:
            assert contents(store, "s") == ["a", "b"]
            assert pragma(store, "user_version") == schema.VERSION
    with closing(apsw.Connection(str(path))) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(sessions)")]
    assert columns.count("colour") == 1


def test_a_migration_that_fails_changes_nothing(
    path: Path, url: str, tampering: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampering.close()

    class PowerCutError(Exception):
        pass

    def step(database: APSWDatabase) -> None:
        database.execute_sql("ALTER TABLE sessions ADD COLUMN colour TEXT")
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        patch.setitem(schema.MIGRATIONS, schema.VERSION - 1, step)
        with pytest.raises(PowerCutError):
            open_tested(url)
    with open_tested(url) as store:
        assert contents(store, "s") == ["a", "b"]
        assert pragma(store, "user_version") == schema.VERSION
    with closing(apsw.Connection(str(path))) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(sessions)")]
    assert "colour" not in columns


def test_op_ids_leave_with_a_compaction_when_they_are_old(
    store: StoreUnderTest, clock: Clock
) -> None:
    old = requests.rollback("s", None)
    apply_all(store, [old])
    clock.advance(hours=10)
    fresh = requests.rollback("s", None)
    apply_all(store, [fresh])
    assert finish(store.compact(10)).op_ids_purged == 0
    assert finish(store.compact(5)).op_ids_purged == 1
    answers = apply_all(store, [old, fresh])
    assert [answer.duplicate for answer in answers] == [False, True]


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("DELETE FROM message_index WHERE rowid = 1", "index"),
        ("DELETE FROM messages WHERE id = 1", "index"),
        ("UPDATE sessions SET message_count = 7", "sessions"),
        ("DELETE FROM sessions", "messages"),
    ],
)
def test_verify_notices_what_is_out_of_step(
    url: str, tampering: apsw.Connection, damage: str, where: str
) -> None:
    tampering.execute(damage)
    tampering.close()
    with open_tested(url) as store:
        findings = store.verify()
    assert where in {finding.where for finding in findings}
    assert all(finding.problem and finding.advice for finding in findings)


def test_a_damaged_page_is_noticed(path: Path, url: str) -> None:
    with open_tested(url) as store:
        for number in range(200):
            say(store, "s", f"message {number} " + "words " * 50)
        finish(store.compact(0))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(4096 * 8))
    assert any("backup" in advice for advice in advice_on(url))


def advice_on(url: str) -> list[str]:
    """What a store says of itself when it is opened and verified."""
    try:
        with open_tested(url) as store:
            return [finding.advice for finding in store.verify()]
    except StoreUnusableError as error:
        return [str(error)]


def test_a_reader_beside_the_writer_sees_what_is_committed(url: str, store: StoreUnderTest) -> None:
    say(store, "s", "a")
    with open_tested(url, read_only=True) as reader:
        assert contents(reader, "s") == ["a"]
        assert isinstance(store.store, SqliteBackend)
        with store._transaction() as connection:
            connection.execute("UPDATE messages SET content = 'not committed'")
            assert contents(reader, "s") == ["a"]
            connection.execute("UPDATE messages SET content = 'a'")
        say(store, "s", "b")
        assert contents(reader, "s") == ["a", "b"]
        assert found(reader, "b") == {"b"}
        assert keys(reader) == {"s"}
        assert reader.verify() == []


def test_a_reader_changes_nothing(url: str, store: StoreUnderTest) -> None:
    say(store, "s", "a")
    with open_tested(url, read_only=True) as reader:
        for operation in (
            requests.append("s", (ChatMessage.user("b"),), None),
            requests.delete("s"),
            requests.rename_agent("a", "b"),
        ):
            with pytest.raises(StoreUnusableError, match="open for reading only"):
                reader.apply([operation])
    assert contents(store, "s") == ["a"]


def test_a_reader_makes_no_store(path: Path, url: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        open_tested(url, read_only=True)
    assert not path.exists()


def test_a_missing_directory_is_created(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path}/a/b/c.db") as store:
        say(store, "s", "x")
    assert (tmp_path / "a/b/c.db").exists()


@pytest.mark.parametrize("place", ["", "file/store.db"])
def test_a_path_where_no_file_can_be_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((StoreUnavailableError, StoreUnusableError)) as caught:
        open_tested(f"sqlite://{tmp_path}/{place}")
    assert str(tmp_path) in str(caught.value)


def test_a_directory_that_cannot_be_written_is_named() -> None:
    advice = pytest.raises(StoreUnavailableError, match="may this user write there")
    with read_only_directory() as directory, unprivileged(), advice as caught:
        open_tested(f"sqlite://{directory}/store.db")
    assert str(directory) in str(caught.value)


def test_a_store_that_another_program_holds_is_unavailable_and_unharmed(
    path: Path, store: StoreUnderTest
) -> None:
    assert isinstance(store.store, SqliteBackend)
    store._connection.set_busy_timeout(1)
    said = requests.append("s", (ChatMessage.user("a"),), None)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="a store has one writer"):
            store.apply([said])
        other.execute("ROLLBACK")
    assert not apply_all(store, [said])[0].duplicate
    assert contents(store, "s") == ["a"]


def test_a_full_store_takes_nothing_of_the_group_and_all_of_it_later(
    store: StoreUnderTest,
) -> None:
    say(store, "s", "before")
    pages = pragma(store, "page_count")
    group = [requests.append("s", (ChatMessage.user(f"{n}" * 9_000),), None) for n in range(9)]
    assert isinstance(store.store, SqliteBackend)
    store._connection.pragma("max_page_count", pages + 3)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="full"):
            store.apply(group)
        assert contents(store, "s") == ["before"]
    store._connection.pragma("max_page_count", 2**31)
    assert not any(outcome.duplicate for outcome in apply_all(store, group))
    assert len(contents(store, "s")) == 10
    assert store.verify() == []


def test_space_is_given_back_to_the_disk(path: Path, store: StoreUnderTest) -> None:
    for number in range(50):
        say(store, "s", f"{number} " + "lots of words " * 1_000)
    store.clear("s")
    report = finish(store.compact(0))
    assert report.bytes_after < report.bytes_before / 2
    assert path.stat().st_size < 300_000  # the empty tables and indexes have 200,000
    wal = path.with_name("store.db-wal")
    assert not wal.exists() or wal.stat().st_size == 0


def test_better_hits_come_first(store: StoreUnderTest) -> None:
    say(store, "s", "needle " + "hay " * 50, "needle needle needle", "hay")
    hits = store.search("needle")
    assert [hit.message.content[:13] for hit in hits] == ["needle needle", "needle hay ha"]
    assert hits[0].score is not None
    assert hits[1].score is not None
    assert hits[0].score > hits[1].score


def test_an_interrupt_during_a_commit_waits_for_it_and_comes_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is another thread's for that long: a rollback now would break it."""
    index_and_commit, is_waited_for = SqliteBackend._index_and_commit, threading.Event()

    def interrupted(backend: SqliteBackend, group: Group) -> None:
        for _ in range(10):  # one that comes just before it begins to wait does not wake it
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if is_waited_for.wait(1):
                break
        index_and_commit(backend, group)

    def wait_for_commit(committer: Committer) -> None:
        is_waited_for.set()
        real_wait(committer)

    real_wait = Committer.wait
    monkeypatch.setattr(SqliteBackend, "_index_and_commit", interrupted)
    monkeypatch.setattr(Committer, "wait", wait_for_commit)
    with open_tested(url) as store:
        operations = [requests.append("s", (ChatMessage.user("hi"),), None)]
        with pytest.raises(KeyboardInterrupt):
            store.apply(operations, prepare_next=lambda: None)
        monkeypatch.undo()
        assert contents(store, "s") == ["hi"]
        (again,) = store.apply(operations)
        assert again == Outcome(1, duplicate=True)
        assert store.verify(deep=True) == []


def test_a_message_that_goes_within_its_group_leaves_a_gap_in_the_index(url: str) -> None:
    def append(text: str) -> Append:
        return requests.append("s", (ChatMessage.user(text),), None)

    with open_tested(url) as store:
        group = [append("ape"), append("bee"), requests.rollback("s", None), append("cat")]
        apply_all(store, [*group, append("dog")])
        assert [found(store, word) for word in ("bee", "cat", "dog")] == [set(), {"cat"}, {"dog"}]
        assert store.verify(deep=True) == []
