"""How SQLite finds what is read: by index, whatever it knows or does not know of the tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite import listing
from backscroll_worker.testing.conformance.listing import FILTERS, all_keys, fill, pages, passes
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, open_tested, requests

Read = Callable[[StoreUnderTest], object]

_LATER: Final = from_micros(1_750_000_000_000_003)

READS: Final[dict[str, Read]] = {
    "load": lambda store: store.load("busy", limit=50),
    "load all": lambda store: store.load("busy"),
    "load before": lambda store: store.load(
        "busy", limit=5, before=store.load("busy", limit=1)[0].message_id
    ),
    "load around": lambda store: store.load(
        "busy", limit=5, around=store.load("busy", limit=10)[0].message_id
    ),
    "load with edits": lambda store: store.load("busy", limit=5, include_edits=True),
    "load after": lambda store: store.load(
        "busy", limit=5, after=store.load("busy", limit=10)[0].message_id
    ),
    "load the oldest": lambda store: store.load("busy", limit=5, oldest=True),
    "get": lambda store: store.get(store.load("busy", limit=1)[0].message_id or ""),
    "load by author": lambda store: store.load("busy", limit=5, author="ada"),
    "load by role": lambda store: store.load("busy", limit=5, role="user", since=_LATER),
    "load for a model": lambda store: store.load("busy", legal=True, max_tokens=9, active=True),
    "rollback": lambda store: store.remove_last("busy"),
    "usage": lambda store: store.usage(key="busy", author="ada"),
    "usage of an author": lambda store: store.usage(author="ada"),
    "listing of an author": lambda store: store.search("", author="ada"),
    "append": lambda store: store.append("busy", ChatMessage.user("x", platform_id="p")),
    "session": lambda store: store.session("busy"),
    "sessions": lambda store: store.sessions(limit=2),
    "sessions, a range": lambda store: store.sessions(active_since=_LATER, active_until=_LATER),
    "sessions, the second page": lambda store: store.sessions(
        limit=2, cursor=store.sessions(limit=2).cursor
    ),
    "channel": lambda store: store.sessions(channel="slack"),
    "room": lambda store: store.sessions(room="r1"),
    "sender": lambda store: store.sessions(sender="me"),
    "agent": lambda store: store.sessions(agent="main"),
    "author": lambda store: store.sessions(author="ada"),
    "meta": lambda store: store.sessions(meta={"odd": True, "third": 1.0}),
    "state": lambda store: store.sessions(state="running"),
    "pinned": lambda store: store.sessions(pinned=True),
    "name": lambda store: store.sessions(name="plan"),
    "prefix": lambda store: store.sessions(prefix="s1"),
    "what expires": lambda store: finish(store.cleanup(1, dry_run=True)),
    "forks": lambda store: store.sessions(forked_from="busy"),
    "fork": lambda store: store.fork("busy", new_op_id()),
    "all of them": lambda store: store.sessions(
        channel="slack", room="r1", sender="me", agent="main", state="running", pinned=True,
        author="ada", meta={"odd": True}, stuck_seconds=0, name="plan", active_since=_LATER,
        prefix="s",
    ),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[StoreUnderTest]:
    """Many sessions that hardly differ, and a few messages; as unlike an even spread as can be."""
    with open_tested(f"sqlite://{tmp_path / 'store.db'}", clock=clock) as opened:
        said = tuple(ChatMessage.user("x") for _ in range(60))
        for key in ("busy", "other"):
            apply_all(opened, [requests.append(key, said, None)])
        fill(opened, clock)
        yield opened


@contextmanager
def traced(store: StoreUnderTest) -> Iterator[list[tuple[str, Any]]]:
    """The statements that the store carries out, with their values."""
    statements: list[tuple[str, Any]] = []

    def note(_cursor: apsw.Cursor, sql: str, values: Any) -> bool:
        statements.append((sql, values))
        return True

    store._connection.exec_trace = note
    try:
        yield statements
    finally:
        store._connection.exec_trace = None


def plans(store: StoreUnderTest, read: Read) -> list[str]:
    """Each SELECT that answers `read`, as SQLite plans it, in one line."""
    with traced(store) as statements:
        read(store)
    return [
        " | ".join(
            str(row[3]) for row in store._connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        )
        for sql, values in statements
        if sql.startswith("SELECT")
    ]


def goes_through_everything(plan: str) -> bool:
    """Whether a table is read from one end until there is enough."""
    few = r"(erased|erasing_authors|forks|gone_platform_ids|session_renames|waiting_changes)$"
    scans = re.search(
        rf"SCAN (?!\(|{few}|carray VIRTUAL TABLE|name_index VIRTUAL TABLE INDEX 0:M)", plan
    )
    stretches = re.search(r"USING INTEGER PRIMARY KEY \(rowid[<>]", plan)
    return bool(scans or stretches)


@pytest.mark.parametrize("is_analyzed", [False, True])
@pytest.mark.parametrize("few", [listing.FEW, 1])
def test_every_read_goes_by_index(
    store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch, is_analyzed: bool, few: int
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    if is_analyzed:
        store._connection.execute("ANALYZE")
    for name, read in READS.items():
        found = plans(store, read)
        assert found, name
        for plan in found:
            assert not goes_through_everything(plan), (name, plan)


@pytest.mark.parametrize(
    "read",
    [
        "load",
        "load all",
        "load before",
        "load around",
        "sessions",
        "sessions, the second page",
        "what expires",
    ],
)
def test_what_has_an_order_by_its_index_is_not_sorted(store: StoreUnderTest, read: str) -> None:
    assert not any("TEMP B-TREE" in plan for plan in plans(store, READS[read]))


def test_a_read_of_another_session_compiles_no_statement_again(store: StoreUnderTest) -> None:
    compiled: list[object] = []

    def note(*action: object) -> int:
        compiled.append(action)
        return apsw.SQLITE_OK

    store._connection.authorizer = note  # SQLite asks it while it compiles, for each column
    store.load("busy", limit=50)
    assert compiled
    compiled.clear()
    store.load("other", limit=49)
    assert not compiled


def test_dropping_any_index_of_a_read_is_noticed(store: StoreUnderTest) -> None:
    connection = store._connection
    rows: list[Any] = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name IN ('messages', 'sessions')"
    ).fetchall()
    assert len(rows) >= 10
    for index, sql in rows:
        connection.execute(f"DROP INDEX {index}")
        assert is_noticed(store), index
        connection.execute(sql)
    assert not is_noticed(store)


def is_noticed(store: StoreUnderTest) -> bool:
    for read in READS.values():
        try:
            if any(goes_through_everything(plan) for plan in plans(store, read)):
                return True
        except (OperationRefusedError, apsw.SQLError):  # a statement that names its index
            return True
    return False


@pytest.mark.parametrize("few", [1, 3, 7])
def test_the_way_a_page_is_found_does_not_show(
    store: StoreUnderTest, clock: Clock, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    everything = [info for page in pages(store, 1_000) for info in page]
    monkeypatch.setattr(listing, "FEW", few)
    for where in FILTERS:
        expected = [info.key for info in everything if passes(info, where, clock)]
        for limit in (1, 2, 40):
            assert all_keys(store, limit, **where) == expected, (where, limit)


def test_a_new_store_and_a_migrated_one_find_names_alike(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "store.db"
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        store.describe("s", name="Café plans")
    with closing(apsw.Connection(str(path))) as connection:  # as version 1 was
        connection.execute("DROP TABLE name_index")
        connection.execute("DROP TRIGGER session_name_gone")
        connection.execute("DROP INDEX sessionrow_pinned")
        connection.pragma("user_version", 1)
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        assert [info.key for info in store.sessions(name="cafe").sessions] == ["s"]
        assert store.verify() == []
        store.delete("s")
        assert store.verify() == []
