"""What every store promises of a search without a word: what passes the filter, newest first."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.testing.stores import Clock, StoreUnderTest, say

NEEDS = "search"


def listed(store: StoreUnderTest, limit: int = 3, **where: Any) -> str:
    """What the messages of all pages say."""
    found, cursor = "", None
    while True:
        page = store.search("", limit=limit, cursor=cursor, **where)
        found += "".join(hit.message.content for hit in page)
        cursor = page.cursor
        if cursor is None:
            return found


def fill(store: StoreUnderTest, clock: Clock) -> None:
    for number, text in enumerate("abcdefgh"):
        clock.advance(seconds=1)
        author = ("ann", "bob", None)[number % 3]
        at = from_micros(clock.now)
        message = ChatMessage.user(text, author=author, created_at=at)
        store.append(f"s{number % 2}", message, ChatMessage("tool", text.upper(), created_at=at))
    store.describe("s1", channel="slack")


def test_what_passes_the_filter_is_listed_newest_first(store: StoreUnderTest, clock: Clock) -> None:
    fill(store, clock)
    assert listed(store, role="user") == "hgfedcba"
    assert listed(store, author="ann") == "gda"
    assert listed(store, author="ann", key="s0") == "ga"
    assert listed(store, author="nobody") == ""
    assert listed(store, channel="slack") == "HhFfDdBb"
    assert listed(store, limit=1, channel="slack", role="user") == "hfdb"
    assert listed(store, since=from_micros(clock.now - 1_000_000)) == "HhGg"
    assert listed(store, until=from_micros(clock.now), role="tool") == "GFEDCBA"


def test_a_session_is_listed_in_its_order_whatever_the_times(store: StoreUnderTest) -> None:
    for number, text in enumerate("adbgcehf"):
        at = from_micros(1_000_000 + number * 7 % 5)
        store.append("s", ChatMessage.user(text, created_at=at))
    assert listed(store, key="s") == "fhecgbda"
    assert listed(store, role="user", since=from_micros(1_000_002)) == "fhcbd"


def test_a_listed_message_comes_with_its_session_and_its_beginning(
    store: StoreUnderTest,
) -> None:
    store.append("s", ChatMessage.user("word " * 200, author="ann"))
    (hit,) = store.search(" ", author="ann")
    assert (hit.key, hit.message, hit.marks) == ("s", store.load("s")[0], ())
    assert hit.snippet.startswith("word word")
    assert len(hit.snippet) < 300


def test_without_a_filter_or_by_session_an_empty_query_finds_nothing(
    store: StoreUnderTest,
) -> None:
    store.append("s", ChatMessage.user("a", author="ann"))
    assert not store.search("")
    assert not store.search("", author="ann", by_session=True)
    assert not store.search('""', author="ann")


def test_pages_of_a_listing_show_what_was_there_once(store: StoreUnderTest, clock: Clock) -> None:
    fill(store, clock)
    page = store.search("", limit=3, role="user")
    clock.advance(seconds=1)
    store.append("s0", ChatMessage.user("new", created_at=from_micros(clock.now)))
    rest = store.search("", limit=99, role="user", cursor=page.cursor)
    assert "".join(hit.message.content for hit in (*page, *rest)) == "hgfedcba"
    with pytest.raises(OperationRefusedError, match="cursor"):
        store.search("", role="tool", cursor=page.cursor)


def test_a_deleted_session_is_not_listed(store: StoreUnderTest) -> None:
    say(store, "s", "a")
    say(store, "t", "b")
    store.delete("s")
    assert listed(store, role="user") == "b"
