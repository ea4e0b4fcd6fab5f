"""What every store promises of a search in `extra`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.search.text import tokens
from backscroll_worker.testing.stores import StoreUnderTest

NEEDS = "search"

EXTRAS: tuple[dict[str, Any] | None, ...] = (
    None,
    {},
    {"file": {"name": "Übersicht.pdf", "size": 4711}, "kind": "invoice"},
    {"calls": [{"name": "get_weather", "arguments": '{"city": "Łódź"}'}, {"name": "stop"}]},
    {
        "invoice": True,
        "paid": False,
        "at": None,
        "weight": 2.5,
        "least": 1e-7,
        "tags": ["red wine", "bread"],
    },
)


@pytest.fixture
def extras(store: StoreUnderTest) -> StoreUnderTest:
    for number, extra in enumerate(EXTRAS):
        store.append("s", ChatMessage("user", f"invoice {number}", extra))
    return store


def found(store: StoreUnderTest, query: str, **how: Any) -> set[int]:
    hits = store.search(query, within="extra", limit=1_000, **how)
    return {int(hit.message.content.split()[-1]) for hit in hits}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("invoice", {2}),
        ("ubersicht pdf", {2}),
        ("4711", {2}),
        ("get_weather", {3}),
        ("lodz", {3}),
        ("weather OR invoice", {2, 3}),
        ('"red wine" -bread', set()),
        ('"red wine" -beer', {4}),
        ("2.5", {4}),
        ("1e", {4}),
        ("1e-7", {4}),
        ("07", set()),
        ("LODZ OR WINE", {3, 4}),
        ("tru*", set()),
        ("name", set()),
        ("br*", {4}),
        ("", set()),
        ("-", set()),
    ],
)
def test_a_query_finds_values_of_extra(
    extras: StoreUnderTest, query: str, expected: set[int]
) -> None:
    assert found(extras, query) == expected


def test_a_hit_in_extra_shows_where_it_is(extras: StoreUnderTest) -> None:
    (hit,) = extras.search("wine 2.5", within="extra")
    assert hit.highlighted() == "[2.5]\n1e-7\nred [wine]\nbread"
    assert hit.message.extra == EXTRAS[4]
    assert extras.search("invoice -wine", within="extra").excluded == ("wine",)


def test_only_the_content_is_searched_unless_extra_is_asked_for(extras: StoreUnderTest) -> None:
    assert not extras.search("pdf")
    assert len(extras.search("invoice")) == len(EXTRAS)


def test_a_search_in_extra_is_filtered(store: StoreUnderTest) -> None:
    for number, (key, role) in enumerate((("a", "user"), ("b", "tool"), ("b", "user"))):
        store.append(key, ChatMessage(role, str(number), {"word": "needle"}))
    store.describe("b", channel="web")
    assert found(store, "needle") == {0, 1, 2}
    assert found(store, "needle", where=SearchFilter(key="a")) == {0}
    assert found(store, "needle", where=SearchFilter(channel="web")) == {1, 2}
    assert found(store, "needle", channel="web", role="tool") == {1}
    assert found(store, "needle", key="nobody") == set()


def test_a_search_in_extra_comes_in_pages(store: StoreUnderTest) -> None:
    for number in range(25):
        store.append("s", ChatMessage("user", str(number), {"word": "needle " * (number % 4 + 1)}))
    page = store.search("needle", within="extra", limit=10)
    hits = list(page)
    while page.cursor is not None:
        page = store.search("needle", within="extra", limit=10, cursor=page.cursor)
        hits += page
    assert len({hit.message.message_id for hit in hits}) == len(hits) == 25
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits == list(store.search("needle", within="extra", limit=1_000))
    cursor = store.search("needle", within="extra", limit=1).cursor
    with pytest.raises(OperationRefusedError, match="cursor"):
        store.search("needle", limit=1, cursor=cursor)


def test_what_an_edit_took_from_extra_is_not_found(store: StoreUnderTest) -> None:
    store.append("s", ChatMessage("user", "0", {"word": "before"}))
    store.replace("s", ChatMessage("user", "1", {"word": "after"}))
    assert (found(store, "before"), found(store, "after")) == (set(), {1})
    store.replace("s", ChatMessage("user", "2"))
    assert found(store, "after") == set()


def test_extra_is_not_searched_by_session(store: StoreUnderTest) -> None:
    with pytest.raises(InvalidInputError, match="within"):
        store.search("x", within="extra", by_session=True)
    with pytest.raises(InvalidInputError, match="within"):
        store.search("x", within="nothing")  # type: ignore[arg-type]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_in_extra_finds_itself(store: StoreUnderTest, other: Any, text: str) -> None:
    extra = {"before": other, "deep": [{"text": text}]}
    store.append("s", ChatMessage("user", "x", extra))
    quoted = '"' + text.replace('"', " ") + '"'
    if tokens(quoted):
        hits = store.search(quoted, within="extra", limit=1_000)
        assert extra in [hit.message.extra for hit in hits]
        assert all(hit.marks for hit in hits)
