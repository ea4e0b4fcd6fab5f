"""The original's sessions.db, whichever version wrote it, and however it was left."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backscroll import InvalidInputError
from backscroll.contract.messages import SessionInfo
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files
from backscroll_worker.transfer.original_database import read_database
from backscroll_worker.transfer.source import Incoming
from tests.backends.files import unprivileged
from tests.transfer.sessions import everything

# The original's own tables, index and triggers included; the columns below came later, in order.
TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT NOT NULL, role TEXT NOT NULL,
    content TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE INDEX idx_sessions_key ON sessions(session_key);
CREATE INDEX idx_sessions_key_id ON sessions(session_key, id);
CREATE TABLE session_metadata (
    session_key TEXT PRIMARY KEY, created_at TEXT NOT NULL, last_activity TEXT NOT NULL,
    message_count INTEGER NOT NULL DEFAULT 0);
CREATE VIRTUAL TABLE sessions_fts USING fts5(
    session_key, content, content=sessions, content_rowid=id);
CREATE TRIGGER sessions_ai AFTER INSERT ON sessions BEGIN
    INSERT INTO sessions_fts(rowid, session_key, content)
    VALUES (new.id, new.session_key, new.content);
END;
"""
LATER_COLUMNS = (
    "name TEXT",
    "state TEXT NOT NULL DEFAULT 'idle'",
    "turn_id TEXT",
    "turn_started_at TEXT",
    "agent_alias TEXT",
    "channel_id TEXT",
    "room_id TEXT",
    "sender_id TEXT",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'backscroll.db'}"


@pytest.fixture
def original(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as the running original has it open: all is still in its log."""
    with closing(made(path, len(LATER_COLUMNS))) as connection:
        yield connection


def made(path: Path, columns: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(TABLES)
    for column in LATER_COLUMNS[:columns]:
        connection.execute(f"ALTER TABLE session_metadata ADD COLUMN {column}")
    return connection


def say(connection: sqlite3.Connection, key: str, *messages: tuple[str, object, str]) -> None:
    for role, content, sent in messages:
        connection.execute(
            "INSERT INTO sessions(session_key, role, content, created_at) VALUES (?, ?, ?, ?)",
            (key, role, content, sent),
        )


def describe(connection: sqlite3.Connection, key: str, **values: object) -> None:
    values = {"session_key": key, **values}
    marks = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO session_metadata({', '.join(values)}) VALUES ({marks})",  # noqa: S608
        tuple(values.values()),
    )


def take(path: Path, store: str) -> ImportReport:
    return import_files([path], store, Options(), lambda _: None)


def test_import_reads_the_log_of_a_running_original(
    original: sqlite3.Connection, path: Path, store: str
) -> None:
    say(
        original,
        "slack/thread:1/x",
        ("user", "hello\0\n", "2026-03-24T12:17:14.123456789+00:00"),
        ("assistant", "", "2026-03-24T14:17:15+02:00"),
    )
    say(original, "other", ("tool", "語", "2026-03-24T12:17:16Z"))
    describe(
        original,
        "slack/thread:1/x",
        created_at="2026-03-24T12:17:14.1+00:00",
        last_activity="2026-03-25T00:00:00+00:00",
        message_count=2,
        name="Thread",
        state="running",
        turn_id="t1",
        turn_started_at="2026-03-24T12:18:00+00:00",
        agent_alias="ann",
        channel_id="slack",
        room_id="r",
        sender_id="s",
    )
    assert path.with_name("sessions.db-wal").stat().st_size > 0
    before = path.read_bytes()
    report = take(path, store)
    assert (report.sessions, report.messages, report.refused, report.left_out) == (2, 3, [], [])
    assert path.read_bytes() == before
    info, messages = everything(store)["slack/thread:1/x"]
    assert info == SessionInfo(
        "slack/thread:1/x",
        datetime(2026, 3, 24, 12, 17, 14, 100_000, UTC),
        datetime(2026, 3, 25, tzinfo=UTC),
        2,
        "Thread",
        "ann",
        "slack",
        "r",
        "s",
        "running",
        "t1",
        datetime(2026, 3, 24, 12, 18, tzinfo=UTC),
    )
    assert [(each.role, each.content, each.created_at) for each in messages] == [
        ("user", "hello\0\n", datetime(2026, 3, 24, 12, 17, 14, 123_456, UTC)),
        ("assistant", "", datetime(2026, 3, 24, 12, 17, 15, tzinfo=UTC)),
    ]
    other, _ = everything(store)["other"]  # which has no metadata
    assert other is not None
    assert other.created_at == other.last_activity == datetime(2026, 3, 24, 12, 17, 16, tzinfo=UTC)


@pytest.mark.parametrize("columns", range(len(LATER_COLUMNS) + 1))
def test_databases_of_older_versions_lack_columns(path: Path, store: str, columns: int) -> None:
    moment = "2026-03-24T12:17:14+00:00"
    with closing(made(path, columns)) as connection:
        say(connection, "k", ("user", "hello", moment))
        named = {"name": "Chat"} if columns else {}
        describe(connection, "k", created_at=moment, last_activity=moment, **named)
    assert take(path, store).sessions == 1
    info, (message,) = everything(store)["k"]
    assert info is not None
    assert (info.name, info.state, message.content) == (named.get("name"), "idle", "hello")


def test_columns_of_a_later_version_are_not_passed_over_without_a_word(
    path: Path, original: sqlite3.Connection, store: str
) -> None:
    original.execute("ALTER TABLE sessions ADD COLUMN tools")
    original.execute("ALTER TABLE session_metadata ADD COLUMN summary")
    say(original, "k", ("user", "a", "1704067200"))
    report = take(path, store)
    assert [line.removeprefix(f"{path}: ").partition(":")[0] for line in report.left_out] == [
        "sessions.tools",
        "session_metadata.summary",
    ]
    with open_tested(store, read_only=True) as backend:
        (message,) = backend.load("k")
    assert message.created_at is not None
    assert message.created_at.timestamp() == 1_704_067_200


def test_a_second_import_changes_nothing(
    original: sqlite3.Connection, path: Path, store: str
) -> None:
    say(original, "k", ("user", "hello", "2026-03-24T12:17:14+00:00"))
    take(path, store)
    before = everything(store)
    report = take(path, store)
    assert (report.sessions, report.known) == (0, 1)
    assert everything(store) == before


def test_damaged_rows_are_named_and_the_rest_comes_over(
    original: sqlite3.Connection, path: Path, store: str
) -> None:
    moment = "2026-03-24T12:17:14+00:00"
    say(
        original,
        "k",
        ("user", "a", moment),
        ("user", b"\xff\xfe", moment),
        ("", "no role", moment),
        ("user", "when?", "yesterday"),
        ("user", "b", "2026-03-24T12:17:15+00:00"),
    )
    original.execute("INSERT INTO sessions(session_key, role, content, created_at)"
                     " VALUES ('k', 'user', CAST(x'ff' AS TEXT), 'x')")  # fmt: skip
    say(original, "bad\x07key", ("user", "a", moment))
    describe(original, "k", created_at="?", last_activity=moment, name="n\x1b", state="odd")
    report = take(path, store)
    assert (report.sessions, report.messages) == (1, 3)
    assert ["U+0007" in line for line in report.refused] == [True]
    told = "\n".join(report.left_out)
    for part in (
        "row 2 of 'k': content: is not text but blob",
        "row 3 of 'k': role: must not be empty",
        "row 4 of 'k': b'yesterday' is not a time",
        "row 6 of 'k': content: is not UTF-8",
        "session 'k': b'?' is not a time",
        "session 'k': name: ",
        "session 'k': state: ",
    ):
        assert part in told, told
    info, messages = everything(store)["k"]
    assert info is not None
    assert (info.name, info.state) == (None, "idle")
    assert [message.content for message in messages] == ["a", "when?", "b"]
    assert messages[1].created_at == messages[0].created_at == info.created_at


def test_a_database_whose_pages_are_damaged_gives_what_can_be_read(path: Path, store: str) -> None:
    with closing(made(path, 8)) as connection:
        for number in range(200):
            say(connection, f"k{number:03}", ("user", "x" * 500, "2026-03-24T12:17:14+00:00"))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 8_192)
    report = take(path, store)
    assert report.sessions > 100
    assert all("malformed" in line for line in report.refused)
    assert report.refused
    with open_tested(store) as backend:
        assert backend.verify() == []


@contextmanager
def sealed(directory: Path, mode: int = 0o444) -> Iterator[Path]:
    """A copy of the database in a directory where nobody may write; all may read it."""
    with tempfile.TemporaryDirectory() as name:
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                copy = shutil.copy(directory / f"sessions.db{suffix}", name)
                Path(copy).chmod(mode)  # and not what the umask has left
        Path(name).chmod(0o555)
        try:
            with unprivileged():
                yield Path(name) / "sessions.db"
        finally:
            Path(name).chmod(0o755)


def test_a_database_in_a_place_that_cannot_be_written_is_read(path: Path) -> None:
    with closing(made(path, 8)) as connection:
        say(connection, "k", ("user", "hello", "2026-03-24T12:17:14+00:00"))
    with sealed(path.parent) as copy:
        (session,) = [each for each in read_database("x", copy) if isinstance(each, Incoming)]
        assert [each.name for each in copy.parent.iterdir()] == ["sessions.db"]
    assert [message.content for message in session.operation.messages] == ["hello"]


def test_a_log_that_cannot_be_read_there_is_not_passed_over(
    original: sqlite3.Connection, path: Path
) -> None:
    say(original, "k", ("user", "hello", "2026-03-24T12:17:14+00:00"))
    advice = pytest.raises(InvalidInputError, match="db-wal to a place of your own")
    with sealed(path.parent) as copy, advice:
        list(read_database("x", copy))


def test_a_database_that_may_not_be_read_is_refused_by_name(path: Path) -> None:
    made(path, 8).close()
    with sealed(path.parent, mode=0o000) as copy:
        with pytest.raises(InvalidInputError) as caught:
            list(read_database("x", copy))
        assert str(copy) in str(caught.value)


def test_another_database_is_refused(tmp_path: Path, store: str) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sessions(id)")
    assert "not the original program's" in take(path, store).refused[0]
