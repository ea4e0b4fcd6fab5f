"""What every store promises of a search by session: its words may be in different messages."""

from __future__ import annotations

import pytest

from backscroll.contract.filters import SearchFilter, SearchHit
from backscroll.contract.messages import ChatMessage
from backscroll_worker.testing.conformance.search_pages import pages
from backscroll_worker.testing.stores import StoreUnderTest, say

NEEDS = "search"


def sessions(store: StoreUnderTest, query: str, where: SearchFilter | None = None) -> list[str]:
    """The keys of what is found, best first."""
    return [hit.key for hit in store.search(query, where, by_session=True)]


@pytest.fixture
def trip(store: StoreUnderTest) -> StoreUnderTest:
    """A conversation about a trip, and two others that have some of its words."""
    say(store, "trip", "a flight to Naples, and a recipe with lemon?", "take ten lemons", "thanks!")
    say(store, "garden", "lemons need sun", "so do lemon trees")
    say(store, "map", "Naples is in the south")
    return store


@pytest.mark.parametrize(
    "query",
    [
        "naples lemons",
        "lemons naples",
        "naples ten thanks",
        '"flight to naples" lemons',
        "flig* lemons",
        "fli* thank*",
        "naples recipe ten lemons thanks take",
        "naples lemons -garden",
        "naples lemons -sun",
    ],
)
def test_words_in_different_messages_find_their_session(trip: StoreUnderTest, query: str) -> None:
    assert sessions(trip, query) == ["trip"]
    assert not trip.search(query)


@pytest.mark.parametrize(
    "query",
    ["naples recipe ten lemons thanks take a", "fl* thanks", "thanks flight -s*"],
)
def test_too_many_words_and_short_beginnings_must_be_in_one_message(
    trip: StoreUnderTest, query: str
) -> None:
    assert sessions(trip, query) == []
    say(trip, "trip", "Naples by flight: a recipe, take ten lemons, thanks")
    assert sessions(trip, query) == ["trip"]


@pytest.mark.parametrize(
    "query",
    ["naples sun", "naples lemons nowhere", '"naples lemons"', "lemons -ten naples", "-naples -x"],
)
def test_every_word_must_be_in_one_of_its_messages(trip: StoreUnderTest, query: str) -> None:
    assert sessions(trip, query) == []


def test_a_message_with_an_excluded_word_does_not_count(trip: StoreUnderTest) -> None:
    assert sessions(trip, "naples thanks -flight") == []
    assert sessions(trip, "ten thanks -flight") == ["trip"]


def test_a_session_with_all_words_in_one_message_comes_first(store: StoreUnderTest) -> None:
    say(store, "old", "a long message of many words, and among them pears and apples")
    say(store, "spread", "pears", "apples")
    say(store, "newer", "apples", "pears")
    say(store, "none", "pears")
    hits = store.search("apples pears", by_session=True)
    assert [(hit.key, hit.session_matches) for hit in hits] == [
        ("old", 1),
        ("newer", 0),
        ("spread", 0),
    ]


def test_what_is_shown_is_the_newest_message_with_the_rarest_word(trip: StoreUnderTest) -> None:
    say(trip, "trip", "Naples it is")
    (hit,) = trip.search("lemons naples", by_session=True)
    assert hit.highlighted() == "take ten [lemons]"
    say(trip, "garden", "lemons, lemons", "and lemons")
    (hit,) = trip.search("lemons naples", by_session=True)
    assert hit.highlighted() == "[Naples] it is"


def test_only_messages_that_pass_the_filter_count(store: StoreUnderTest) -> None:
    store.append("a", ChatMessage.user("apple"), ChatMessage.assistant("pear"))
    store.append("b", ChatMessage.user("apple"), ChatMessage.user("pear"))
    store.describe("a", channel="web")
    assert set(sessions(store, "apple pear")) == {"a", "b"}
    assert sessions(store, "apple pear", SearchFilter(role="user")) == ["b"]
    assert sessions(store, "apple pear", SearchFilter(channel="web")) == ["a"]
    assert sessions(store, "apple pear", SearchFilter(key="b")) == ["b"]


def test_a_session_is_not_found_by_words_that_are_gone(trip: StoreUnderTest) -> None:
    trip.remove_last("trip")
    assert sessions(trip, "naples thanks") == []
    trip.delete("trip")
    assert sessions(trip, "naples lemons") == []


def test_pages_hold_every_session_once_and_in_one_order(store: StoreUnderTest) -> None:
    for number in range(40):
        said = ("apple", "pear") if number % 3 else ("apple pear", "plum")
        say(store, f"s{number}", *said)

    def found(limit: int) -> list[SearchHit]:
        return list(pages(store, "apple pear", limit, by_session=True))

    everything = found(1_000)
    assert {hit.key for hit in everything} == {f"s{number}" for number in range(40)}
    assert [hit.session_matches for hit in everything] == [1] * 14 + [0] * 26
    for limit in (1, 7, 14, 39, 40):
        assert found(limit) == everything


def test_messages_that_come_in_meanwhile_move_no_session(store: StoreUnderTest) -> None:
    for number in range(20):
        say(store, f"s{number}", "apple", "pear")
    first = store.search("apple pear", limit=8, by_session=True)
    say(store, "new", "pear", "apple")
    rest = store.search("apple pear", limit=20, by_session=True, cursor=first.cursor)
    keys = [hit.key for hit in (*first, *rest) if hit.key != "new"]
    assert sorted(keys) == sorted(f"s{number}" for number in range(20))
