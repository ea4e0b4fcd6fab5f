"""A spool's file that is damaged, another program's, or on a full disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backscroll import Producer, SpoolUnusableError
from tests.test_spool import Road, run, say, wait_until_sent


@pytest.fixture
def road(server_url: str, tmp_path: Path) -> Road:
    return Road(server_url, tmp_path)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.mark.parametrize(
    "damage",
    [
        "op_id = CAST(x'ff' AS TEXT)", "op_id = x'00ff'", "op_id = ''", "data = 'text'",
        "data = CAST(x'ff' AS TEXT)", "data = x''", "time = CAST(x'fffe' AS TEXT)",
        "description = x'ff'", "result_ttl = 1.5", "result_ttl = 'soon'",
    ],
)  # fmt: skip
def test_a_damaged_row_holds_up_none_behind_it(road: Road, spool: Path, damage: str) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, "a", "b", "c")
    with closing(sqlite3.connect(spool)) as database, database:
        database.execute(f"UPDATE jobs SET {damage} WHERE number = 2")  # noqa: S608 - ours
    road.open()
    with Producer(road.url, spool=spool) as producer:
        wait_until_sent(producer)
        ids += say(producer, "d")
    assert [op_id for op_id in road.queued() if op_id in ids and op_id != ids[1]] == [
        ids[0], *ids[2:],
    ]  # fmt: skip


def test_another_programs_database_is_no_spool_and_stays_as_it_is(road: Road, spool: Path) -> None:
    with closing(sqlite3.connect(spool)) as database, database:
        database.execute("CREATE TABLE notes(text)")
    before = spool.read_bytes()
    with pytest.raises(SpoolUnusableError, match="a file of its own"):
        Producer(road.url, spool=spool)
    assert spool.read_bytes() == before


FULL_AT_FIRST = """
    import resource, signal, sys
    from backscroll import ChatMessage, Producer, SpoolDiskError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    kept = []
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for size in (0, 10, 3_000):
        limit(size)
        try:
            Producer(sys.argv[1], spool=sys.argv[2])
        except SpoolDiskError as error:
            assert error.retryable
            kept.append(error)
    limit(resource.RLIM_INFINITY)
    with Producer(sys.argv[1], spool=sys.argv[2]) as producer:
        print(len(kept), producer.append("s", ChatMessage.user("x")).spooled)
"""


def test_a_producer_can_be_made_when_the_disk_is_no_longer_full(road: Road, spool: Path) -> None:
    road.close()
    ended = run(FULL_AT_FIRST, road.url, spool)
    assert ended.stdout.split() == ["3", "True"], ended.stderr
