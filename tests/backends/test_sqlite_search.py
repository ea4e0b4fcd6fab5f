"""What is true of search in SQLite only: windows, and sessions that are being deleted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter, SearchPage, Within
from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.stores.sqlite import bound, extra_search, scope, search
from backscroll_worker.stores.sqlite.search import _LOOKED_THROUGH, RANKED
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    open_tested,
    requests,
    say,
)


def pages(store: StoreUnderTest, query: str, where: SearchFilter, **how: Any) -> list[SearchPage]:
    """All pages of a search."""
    found = [store.search(query, where, **how)]
    while (cursor := found[-1].cursor) is not None:
        found.append(store.search(query, where, cursor=cursor, **how))
    return found


@pytest.fixture(scope="module")
def long_chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreUnderTest]:
    """20 sessions, one after the other, whose 100 messages each have the same words."""
    draw = random.Random(1)
    words = ["apple", "about", "again", "pear"]
    with open_tested(f"sqlite://{tmp_path_factory.mktemp('long')}/long.db") as store:
        for number in range(20):
            texts = (" ".join(draw.choices(words, k=9)) for _ in range(99))
            said = [ChatMessage(draw.choice(("user", "tool")), text) for text in texts]
            last = ChatMessage("user" if number else "rare", "apple about again pear")
            apply_all(store, [requests.append(f"s{number}", (*said, last), None)])
        yield store


@pytest.mark.parametrize("query", ["apple", "a*"])
@pytest.mark.parametrize("role", [None, "tool", "rare"])
def test_pages_that_end_at_the_bound_hold_everything_once(
    long_chats: StoreUnderTest, monkeypatch: pytest.MonkeyPatch, query: str, role: str | None
) -> None:
    where = SearchFilter(role=role)
    for by_session, limit in ((False, 305), (True, 7)):

        def found(by_session: bool = by_session, limit: int = limit) -> list[str]:
            everything = pages(long_chats, query, where, by_session=by_session, limit=limit)
            hits = [hit for page in everything for hit in page]
            return sorted(hit.key if by_session else str(hit.message.message_id) for hit in hits)

        unbounded = found()
        assert len(unbounded) == len(set(unbounded))
        with monkeypatch.context() as patch:
            patch.setattr(bound, "MOST", 310)
            patch.setattr(search, "RANKED", 50)
            patch.setattr(search, "_WINDOWS", 7)
            assert found() == unbounded
        with monkeypatch.context() as patch:
            patch.setattr(search, "_TOKENS", 150)
            assert found() == unbounded


def test_a_read_that_takes_too_long_is_refused_and_its_neighbours_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "MOST_SECONDS", 0.0)
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
        apply_all(store, [requests.append("k", (ChatMessage.user("an apple"),) * 300, None)])
        asked = requests.search("apple", SearchFilter(), 20, by_session=True)
        append = requests.append("k", (ChatMessage.user("an apple"),), None)
        budget = AnswerBudget()
        answers = store.apply([append, asked], budget=budget)
        assert answers[0] == Outcome(1)
        assert isinstance(answers[1], OperationRefusedError)
        assert "a shorter phrase" in str(answers[1])
        assert store.session("k").message_count == 301  # type: ignore[union-attr]
        assert len(store.search("apple")) == 20  # who asks without a worker may wait


def test_a_page_whose_filter_nothing_passes_ends_at_the_bound(
    long_chats: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "MOST", 500)
    nobody = SearchFilter(role="nobody")
    for query in ("apple", "a*"):
        for by_session in (False, True):
            found = pages(long_chats, query, nobody, by_session=by_session)
            assert not any(found)
            assert len(found) == 4, query
    assert long_chats.search("apple about", SearchFilter(role="rare")).cursor is not None


def test_rows_of_a_prefix_are_collected_no_more_often_for_many_windows(
    long_chats: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RANKED", 50)
    asked: list[str] = []

    def note(_cursor: apsw.Cursor, sql: str, _values: object) -> bool:
        asked.extend([sql] if "MATCH" in sql else [])
        return True

    connection = long_chats._connection
    connection.exec_trace = note
    for limit in (1, 10):
        assert len(long_chats.search("a*", by_session=True, limit=limit)) == limit
    connection.exec_trace = None
    assert len(asked) == 2 * 2


def test_matches_of_a_session_are_counted_up_to_the_bound(
    long_chats: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {hit.session_matches for hit in long_chats.search("a*", by_session=True)} <= {99, 100}
    monkeypatch.setattr(search, "MOST", 150)
    counted = [hit.session_matches for hit in long_chats.search("a*", by_session=True)]
    assert sum(count or 0 for count in counted) == 150 + len(counted) - 2
    assert min(count or 0 for count in counted) == 1


def test_the_newest_hits_are_ranked_before_older_ones(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
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


def test_common_words_across_messages_are_sought_in_the_newest_sessions(
    tmp_path: Path,
) -> None:
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
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
    with open_tested(f"sqlite://{path}", clock=clock) as store:
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


@pytest.mark.parametrize(("most", "chars"), [(7, 10**6), (10**5, 60), (10**5, 10**6)])
def test_a_search_in_extra_that_ends_early_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, chars: int
) -> None:
    monkeypatch.setattr(bound, "MOST", most)
    monkeypatch.setattr(scope, "FEW_MESSAGES", 0)
    monkeypatch.setattr(extra_search, "_CHARS", chars)
    monkeypatch.setattr(extra_search, "RANKED", 5)
    with open_tested(f"sqlite://{tmp_path}/extra.db") as store:
        for number in range(36):
            words = {"word": "needle " * (number % 3)} if number % 4 else None
            store.append("s", ChatMessage("user", str(number), words))
        wanted = {str(number) for number in range(36) if number % 4 and number % 3}
        for limit in (1, 4, 1_000):
            for where in (SearchFilter(), SearchFilter(key="s")):
                found = pages(store, "needle", where, within="extra", limit=limit)
                said = [hit.message.content for page in found for hit in page]
                assert len(said) == len(set(said))
                assert set(said) == wanted
        assert (len(found) > 1) == (most == 7 or chars == 60)


def test_the_bound_counts_rows_in_their_order_whatever_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An author's index has them by session: a page would end at a row of the middle."""
    monkeypatch.setattr(scope, "FEW_MESSAGES", 0)
    monkeypatch.setattr(bound, "MOST", 7)
    with open_tested(f"sqlite://{tmp_path}/store.db") as store:
        for number in range(60):
            said = ChatMessage.user(f"{number}", author="ann", extra={"word": "apple"})
            store.append(f"s{number % 7}", said, ChatMessage.user("x", author="bob"))
        searches: tuple[tuple[str, Within | None], ...] = (("apple", "extra"), ("", None))
        for query, within in searches:
            cursor, found = None, list[int]()
            for _ in range(100):
                page = store.search(query, author="ann", cursor=cursor, within=within)
                found += [int(hit.message.content) for hit in page]
                if (cursor := page.cursor) is None:
                    break
            assert sorted(found) == list(range(60))
            assert cursor is None
