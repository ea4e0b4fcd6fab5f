"""Both stores find the same, whatever was said and whatever is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter, SearchHit
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.stores.sqlite import scope
from backscroll_worker.testing.stores import StoreUnderTest, apply_all, open_tested, requests
from tests.budget import tries

WORDS = (
    "a", "ab", "abc", "cafe", "café", "cafe\u0301", "CAFÉ", "naïve", "Straße", "strasse", "b-a",
    "don't", "x_y", "#12345", "12", "1e5", "*", "-", '"', "\0", "\u200d", "\u0301", "\u202e",
    "人工", "知能", "人工知能", "火车票", "天気", "の", "ｶﾅ", "カナ", "오늘", "날씨",
    "วันนี้", "อากาศ", "हिन्दी", "שלום", "שָׁלוֹם", "مرحبا", "مَرحَبا", "привет", "мой", "мои",
    "ΑΘΗΝΑ", "αθηνα", "ﬁne", "İ", "i\u0307", "Ⅷ", "½", "🎉", "🚀🎉", "👩\u200d👩\u200d👧",
    "हिंदी", "न्", "क\u200cष", "ёлка", "елка", "Łódź", "می\u200cخواهم", "مدرسة", "๑๒", "かな",
    "--x", "OR",
)  # fmt: skip

Stores = tuple[StoreUnderTest, StoreUnderTest]

word = st.sampled_from(WORDS) | st.text(max_size=3)
term = st.one_of(
    word,
    word.map(lambda text: f"{text}*"),
    word.map(lambda text: f"-{text}"),
    word.map(lambda text: f"-{text}*"),
    st.lists(word, max_size=3).map(lambda words: f'"{" ".join(words)}"'),
    st.lists(word, max_size=3).map(lambda words: f'-"{"".join(words)}"*'),
)
query = st.lists(term | st.just("OR"), max_size=5).map(" ".join) | st.text(max_size=60)
time = st.none() | st.integers(0, 60).map(from_micros)
where = st.builds(
    SearchFilter,
    key=st.none() | st.sampled_from(["s0", "s1", "nobody"]),
    role=st.none() | st.sampled_from(["user", "assistant", "nobody"]),
    channel=st.none() | st.sampled_from(["web", "irc"]),
    sender=st.none() | st.sampled_from(["ann", "bob"]),
    room=st.none() | st.just("hall"),
    agent=st.none() | st.just("main"),
    since=time,
    until=time,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """One of each kind with the same in them."""
    place: Path = tmp_path_factory.mktemp("agreement")
    draw = random.Random(1)
    operations = [
        requests.append(
            f"s{draw.randrange(6)}",
            (
                ChatMessage(
                    draw.choice(("user", "assistant")),
                    draw.choice((" ", " ", "")).join(draw.choices(WORDS, k=draw.randint(0, 12))),
                    {"values": draw.choices(WORDS, k=draw.randint(0, 9))} if number % 3 else None,
                    created_at=from_micros(number % 60),
                ),
            ),
            None,
        )
        for number in range(400)
    ]
    attributes = (("s0", "web", "ann"), ("s1", "web", "bob"), ("s2", "irc", "ann"))
    with (
        open_tested(f"sqlite://{place}/store.db") as sqlite,
        open_tested(f"jsonl://{place}/store") as jsonl,
    ):
        for store in (sqlite, jsonl):
            apply_all(store, operations)
            for key, channel, sender in attributes:
                store.describe(key, channel=channel, sender=sender, room="hall", agent="main")
        yield sqlite, jsonl


def hits(
    store: StoreUnderTest, query: str, where: SearchFilter, *, by_session: bool = False, **how: Any
) -> dict[object, object]:
    page = store.search(query, where, limit=1_000, by_session=by_session, **how)
    assert page.cursor is None
    if by_session:
        return {hit.key: (hit.session_matches, hit.score) for hit in page}
    return {hit.message.message_id: (hit.key, hit.score, hit.snippet, hit.marks) for hit in page}


@given(query, where, st.booleans())
@settings(
    max_examples=tries(100, deep=300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_both_stores_find_the_same(
    stores: Stores, query: str, where: SearchFilter, by_session: bool
) -> None:
    sqlite, jsonl = stores
    found = hits(sqlite, query, where, by_session=by_session)
    assert found == hits(jsonl, query, where, by_session=by_session)


@given(query, where)
@settings(
    max_examples=tries(50, deep=150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_both_stores_find_the_same_in_extra(
    stores: Stores, query: str, where: SearchFilter
) -> None:
    sqlite, jsonl = stores
    assert hits(sqlite, query, where, within="extra") == hits(jsonl, query, where, within="extra")


@given(query, where, st.booleans())
@settings(
    max_examples=tries(40, deep=100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_filter_that_much_passes_finds_the_same(
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    where: SearchFilter,
    by_session: bool,
) -> None:
    sqlite, _ = stores
    found = hits(sqlite, query, where, by_session=by_session)
    with monkeypatch.context() as patch:
        patch.setattr(scope, "FEW_MESSAGES", 0)
        assert hits(sqlite, query, where, by_session=by_session) == found


@given(query, st.integers(5, 60), st.booleans())
@settings(
    max_examples=tries(15, deep=40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_pages_of_both_hold_all_of_it_once(
    stores: Stores, query: str, limit: int, by_session: bool
) -> None:
    for store in stores:
        found: list[SearchHit] = []
        page = store.search(query, limit=limit, by_session=by_session)
        found += page
        while page.cursor is not None:
            page = store.search(query, limit=limit, by_session=by_session, cursor=page.cursor)
            found += page
        everything = store.search(query, limit=1_000, by_session=by_session)
        assert found == list(everything)


def test_a_cursor_of_the_other_store_is_refused(stores: Stores) -> None:
    for store, other in (stores, stores[::-1]):
        cursor = store.search("cafe", limit=5).cursor
        assert cursor is not None
        with pytest.raises(OperationRefusedError, match="cursor"):
            other.search("cafe", limit=5, cursor=cursor)


def test_the_corpus_has_something_to_find(stores: Stores) -> None:
    for store in stores:
        for asked in ("cafe", '"人工 知能"', "ab*", "🎉 -🚀", "1*", "abc OR 天気 OR мой"):
            assert len(store.search(asked, limit=1_000)) > 5, asked
            assert len(store.search(asked, limit=1_000, within="extra")) > 2, asked
        for asked in ("привет 天気 ½", "abc* 날씨 мои* -🎉", '"人工 知能" Ⅷ strasse 12'):
            by_session = store.search(asked, by_session=True)
            assert any(hit.session_matches == 0 for hit in by_session), asked
