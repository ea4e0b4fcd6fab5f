"""What every store promises of search results: order, pages, cursors, sessions, filters."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter, SearchHit
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.testing.fixtures import UrlAt
from backscroll_worker.testing.stores import StoreUnderTest, apply_all, open_tested, requests, say

NEEDS = "search"

MANY = 2_300
"""More than SQLite ranks at once, twice over."""


def fill(store: StoreUnderTest, count: int = MANY, sessions: int = 40) -> dict[str, str]:
    """Say `count` times something with 'apple' in it; returns what was said by message id."""
    draw = random.Random(1)
    operations = []
    for number in range(count):
        words = ["apple"] * draw.randint(1, 4) + ["pear", "plum"] * draw.randint(0, 20)
        key = f"s{int(draw.paretovariate(0.5)) % sessions}"
        message = ChatMessage.user(f"{' '.join(words)} {number}")
        operations.append(requests.append(key, (message,), None))
    apply_all(store, operations)
    return {append.op_id: append.messages[0].content for append in operations}


def pages(store: StoreUnderTest, query: str, limit: int, **options: Any) -> Iterator[SearchHit]:
    """All hits, a page at a time."""
    cursor = None
    while True:
        page = store.search(query, limit=limit, cursor=cursor, **options)
        assert len(page) <= limit
        yield from page
        cursor = page.cursor
        if cursor is None:
            return
        assert len(page) == limit


def ids(hits: Iterator[SearchHit]) -> list[str | None]:
    return [hit.message.message_id for hit in hits]


@pytest.fixture(scope="module")
def full(
    url_at: UrlAt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StoreUnderTest, dict[str, str]]]:
    """A store that `fill` has filled, for reading only."""
    place = tmp_path_factory.mktemp("full") / "store"
    with open_tested(url_at(place)) as store:
        yield store, fill(store)


@pytest.mark.parametrize("query", ["apple", "app*", "a*", "ap* -cherr*", "apple -a1"])
def test_pages_neither_repeat_nor_omit_a_hit(
    full: tuple[StoreUnderTest, dict[str, str]], query: str
) -> None:
    store, said = full
    found = ids(pages(store, query, 450))
    assert len(found) == len(said)
    assert set(found) == set(said)
    assert found == ids(pages(store, query, 999))


def test_pages_of_any_size_come_in_the_same_order(store: StoreUnderTest) -> None:
    fill(store, 60)
    found = ids(pages(store, "apple", 1_000))
    assert len(found) == 60
    for limit in (1, 7, 59, 60):
        assert ids(pages(store, "apple", limit)) == found


def test_pages_stay_in_place_while_messages_come_in(store: StoreUnderTest) -> None:
    said = fill(store)
    found: list[SearchHit] = []
    cursor = None
    for _ in range(20):
        page = store.search("apple", limit=600, cursor=cursor)
        found += page
        cursor = page.cursor
        if cursor is None:
            break
        say(store, "new", "apple " * len(found), "a fallen apple")
    assert cursor is None
    old = [id_ for id_ in ids(iter(found)) if id_ in said]
    assert len(old) == len(said)
    assert set(old) == set(said)


def test_a_better_hit_that_comes_in_meanwhile_moves_no_session(store: StoreUnderTest) -> None:
    for number in range(6):
        say(store, f"s{number}", "fish " * (6 - number) + "word " * 8, "a fish of many words")
    everything = list(pages(store, "fish", 10, by_session=True))
    found: list[SearchHit] = []
    for hit in pages(store, "fish", 2, by_session=True):
        say(store, "s3", "fish fish fish fish fish fish")
        say(store, "s0", "fish")
        say(store, "new", "fish in no pond")
        found.append(hit)
    assert found == everything
    assert [hit.key for hit in found] == [f"s{number}" for number in range(6)]


def test_the_better_hit_comes_first_and_of_equal_ones_the_newer(store: StoreUnderTest) -> None:
    long = "of apples and pears and plums and cherries and of another apple " * 3
    for number, content in enumerate(("apple pie", long, "apple apple", "apple pie")):
        moment = from_micros(1_700_000_000_000_000 + number)
        store.append("s", ChatMessage("user", content, created_at=moment))
    hits = store.search("apple")
    assert [hit.message.content for hit in hits] == ["apple apple", "apple pie", "apple pie", long]
    first, second = [hit.message.created_at for hit in hits if hit.message.content == "apple pie"]
    assert first is not None
    assert second is not None
    assert first - second == timedelta(microseconds=3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.session_matches is None for hit in hits)


@pytest.mark.parametrize("query", ["apple", "a*"])
def test_by_session_each_comes_once_with_its_number_of_matches(
    full: tuple[StoreUnderTest, dict[str, str]], query: str
) -> None:
    store, _ = full
    counts = Counter(hit.key for hit in pages(store, query, 1_000))
    assert len(counts) > 30
    for limit in (9, 1_000):
        hits = list(pages(store, query, limit, by_session=True))
        assert len(hits) == len(counts)
        assert {hit.key: hit.session_matches for hit in hits} == counts


def test_a_sessions_best_hit_stands_for_it(store: StoreUnderTest) -> None:
    say(store, "a", "an apple among pears", "apple", "an apple among plums", "no fruit")
    say(store, "b", "apple apple")
    hits = store.search("apple", by_session=True)
    assert [(hit.key, hit.message.content, hit.session_matches) for hit in hits] == [
        ("b", "apple apple", 1),
        ("a", "apple", 3),
    ]


def test_only_what_passes_the_filter_counts_for_a_session(store: StoreUnderTest) -> None:
    store.append("a", ChatMessage.user("apple"), ChatMessage.assistant("apple"))
    (hit,) = store.search("apple", SearchFilter(role="user"), by_session=True)
    assert hit.session_matches == 1


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "nonsense", "A" * 40, "====", "é", "%00", "-1", "' OR 1", "a" * 512, "🎉" * 100],
)
@pytest.mark.parametrize("query", ["apple", "?!"])
def test_a_cursor_that_no_page_gave_is_refused(
    store: StoreUnderTest, cursor: str, query: str
) -> None:
    say(store, "s", "apple")
    with pytest.raises((OperationRefusedError, ValueError), match="cursor"):
        store.search(query, cursor=cursor)


def test_a_cursor_is_good_for_its_own_search_only(store: StoreUnderTest) -> None:
    fill(store, 50)
    cursor = store.search("apple", limit=10).cursor
    assert cursor is not None
    assert store.search("apple", limit=40, cursor=cursor).cursor is None
    others: list[dict[str, Any]] = [
        {"query": "apples"},
        {"query": "apple", "where": SearchFilter(role="user")},
        {"query": "apple", "by_session": True},
    ]
    for other in others:
        with pytest.raises(OperationRefusedError, match="cursor"):
            store.search(**other, cursor=cursor)
    for place in range(len(cursor) - 1):  # some bits of the last letter mean nothing
        letter = "A" if cursor[place] != "A" else "B"
        with pytest.raises(OperationRefusedError, match="cursor"):
            store.search("apple", cursor=cursor[:place] + letter + cursor[place + 1 :])


def test_a_filtered_search_is_complete_however_common_the_word(store: StoreUnderTest) -> None:
    fill(store, 400)
    for key in ("kept", "other"):
        say(store, key, "one apple", "two apples", "another apple")
        store.describe(key, room="hall", agent=key, sender="ann", channel="web")
    fill(store, 1_400)
    for query in ("apple", "apple*", "a*"):
        expected = {"kept": 2, "other": 2} if query == "apple" else {"kept": 3, "other": 3}
        for where in (SearchFilter(room="hall"), SearchFilter(sender="ann", channel="web")):
            hits = list(pages(store, query, 2, where=where))
            assert Counter(hit.key for hit in hits) == expected
        for where in (SearchFilter(key="kept"), SearchFilter(agent="kept", room="hall")):
            hits = list(pages(store, query, 1_000, where=where))
            assert Counter(hit.key for hit in hits) == {"kept": expected["kept"]}
    assert not store.search("apple", SearchFilter(room="hall", agent="nobody"))


def test_a_phrase_may_end_in_the_middle_of_a_word(store: StoreUnderTest) -> None:
    say(store, "s", "a ticket to New York", "new yoke", "York is new", "a New Year")
    found = {hit.message.content for hit in store.search('"new yo"*')}
    assert found == {"a ticket to New York", "new yoke"}
