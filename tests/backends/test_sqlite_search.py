"""What is true of search in SQLite only: windows, and sessions that are being deleted."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from producer.messages import ChatMessage
from producer.search import SearchFilter
from tests.backends.stores import Clock, apply_all, requests, say
from worker.backends import open_backend
from worker.backends.sqlite.search import _LOOKED_THROUGH, RANKED


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


def test_common_words_in_different_messages_are_looked_for_in_the_newest_sessions(
    tmp_path: Path,
) -> None:
    with open_backend(f"sqlite://{tmp_path}/b.db") as store:
        apples, pears = (ChatMessage.user("an apple"),) * 4, (ChatMessage.user("a pear"),) * 8
        operations = [
            requests.append(f"s{n}", pears + apples if n % 2 else apples, None)
            for n in range(RANKED // 3)
        ]
        apply_all(store, operations)
        expected = [f"s{n}" for n in range(RANKED // 3) if n % 2][::-1][: _LOOKED_THROUGH // 2]
        for limit in (1_000, 30):
            found: list[str] = []
            page = store.search("apple pear", by_session=True, limit=limit)
            found += [hit.key for hit in page]
            while page.cursor is not None:
                page = store.search("apple pear", by_session=True, limit=limit, cursor=page.cursor)
                found += [hit.key for hit in page]
            assert found == expected
        assert not store.search("apple pear")
        assert not store.search("apple pear nothing", by_session=True)
        store.append("s0", ChatMessage.user("a plum"))
        assert [hit.key for hit in store.search("plum apple", by_session=True)] == ["s0"]
        assert not store.search("plum pear", by_session=True)


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
