"""What is true of search in SQLite only: windows, and sessions that are being deleted."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from producer.messages import ChatMessage
from producer.search import SearchFilter
from tests.backends.stores import Clock, apply_all, requests, say
from worker.backends import open_backend
from worker.backends.sqlite.search import RANKED


def test_the_newest_hits_are_ranked_before_older_ones(tmp_path: Path) -> None:
    with open_backend(f"sqlite://{tmp_path}/b.db") as store:
        say(store, "old", "apple", "apple rare")
        many = (ChatMessage.user("an apple a day"),) * (RANKED - 1)
        store.append("new", *many, ChatMessage.user("apple apple"))
        hits = store.search("apple", limit=1_000)
        assert hits[0].message.content == "apple apple"
        assert {hit.key for hit in hits} == {"new"}
        rest = store.search("apple", limit=1_000, cursor=hits.cursor)
        assert [hit.message.content for hit in rest] == ["apple", "apple rare"]
        assert store.search("apple rare")[0].key == "old"
        (hit,) = store.search("apple", SearchFilter(key="old"), limit=1)
        assert hit.message.content == "apple"


@pytest.mark.parametrize("query", ["apple", "a*"])
def test_nothing_is_found_of_a_session_that_is_being_deleted(tmp_path: Path, query: str) -> None:
    clock, path = Clock(), tmp_path / "b.db"
    with open_backend(f"sqlite://{path}", clock=clock) as store:
        message = ChatMessage.user("apple")
        apply_all(store, [requests.append(f"s{n % 4}", (message,) * 200, None) for n in range(20)])
        store.describe("s0", sender="ann")
        clock.advance(hours=2)
        store.append("kept", message)
        was_half_done = False
        for _ in store.cleanup(1):
            found = {hit.key for hit in store.search(query, limit=1_000)}
            assert found <= {"kept"} | {info.key for info in store.sessions().sessions}
            by_session = store.search(query, by_session=True, limit=1_000)
            assert {hit.key for hit in by_session} == found
            if found == {"kept"}:
                assert not store.search(query, SearchFilter(sender="ann"))
                rows = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
                was_half_done |= rows.execute("SELECT count(*) > 1 FROM messages").get == 1
                rows.close()
        assert was_half_done
        assert [hit.key for hit in store.search(query)] == ["kept"]
