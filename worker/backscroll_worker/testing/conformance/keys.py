"""What every store promises of keys: any text, exactly as given, and no two the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import StoreUnderTest, contents, found, keys, say

HOSTILE = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "...",
    ".hidden",
    "-",
    "--help",
    "~",
    "CON",
    "con",
    "NUL.txt",
    "a/b",
    "a_b",
    "a:b",
    "a-b",
    "a b",
    "a.b",
    "a\\b",
    "a%b",
    "a%2Fb",
    "a%252Fb",
    "%",
    "%%",
    "%00",
    "%~",
    "A",
    "a",
    " ",
    "  ",
    " a",
    "a ",
    "*",
    "?",
    "$(reboot)",
    "'; DROP TABLE sessions; --",
    '"',
    "a.jsonl",
    "a.meta.json",
    "a.jsonl.migrated",
    "ß",
    "ss",
    "é",
    "e\u0301",
    "Å",
    "\u212b",
    "日本語",
    "ไทย",
    "हिन्दी",
    "🙂",
    "\u202e",
    "\u2028",
    "\ufeff",
    "Ⓐ",
    "slack/thread:123/user",
    "telegram_user123",
)
LONG = (
    "x" * 512,
    "x" * 511 + "y",
    "/" * 512,
    "/" * 511 + ".",
    "𠀀" * 512,
    "𠀀" * 511 + "𠀁",
    "🙂" * 512,
    "é" * 512,
    *("n" * length for length in range(236, 258)),
    *("n" * length + "/" for length in range(236, 256)),
)


@pytest.mark.needs("search")
@pytest.mark.parametrize("key", [*HOSTILE, *LONG], ids=lambda key: repr(key[:16]))
def test_any_key_is_kept_exactly(open_store: Open, key: str) -> None:
    with open_store() as store:
        say(store, key, "a", "b")
        store.remove_last(key)
        store.describe(key, name="named")
    with open_store() as store:
        say(store, key, "c")
        assert contents(store, key) == ["a", "c"]
        assert keys(store) == {key}
        info = store.session(key)
        assert info is not None
        assert (info.key, info.name, info.message_count) == (key, "named", 2)
        assert {hit.key for hit in store.search("a")} == {key}
        assert store.verify() == []
        assert store.delete(key)
    store = open_store()
    assert keys(store) == set()
    say(store, key, "d")
    assert contents(store, key) == ["d"]


def test_no_two_keys_share_a_session(open_store: Open) -> None:
    all_keys = [*HOSTILE, *LONG]
    assert len(set(all_keys)) == len(all_keys)
    with open_store() as store:
        for number, key in enumerate(all_keys):
            say(store, key, f"message {number}")
    with open_store() as store:
        assert keys(store) == set(all_keys)
        for number, key in enumerate(all_keys):
            assert contents(store, key) == [f"message {number}"], key
        for key in all_keys[::2]:
            assert store.delete(key)
    with open_store() as store:
        assert keys(store) == set(all_keys[1::2])
        finish(store.compact(0))
        for number, key in enumerate(all_keys):
            assert contents(store, key) == ([f"message {number}"] if number % 2 else []), key
        assert store.verify() == []


@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs", "Cc"])
            | st.sampled_from("aAbB_-%/.:~ 012FfEe\u0301"),
            min_size=1,
            max_size=12,
        )
        | st.text(st.sampled_from("x/𠀀%"), min_size=200, max_size=512),
        unique=True,
        max_size=8,
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_arbitrary_keys_never_collide(store: StoreUnderTest, chosen: list[str]) -> None:
    for key in keys(store):
        store.delete(key)
    for key in chosen:
        say(store, key, f"only in {key}")
    assert keys(store) == set(chosen)
    for key in chosen:
        assert contents(store, key) == [f"only in {key}"]


@pytest.mark.needs("search")
def test_a_key_is_not_searched_for(store: StoreUnderTest) -> None:
    say(store, "needle", "hay")
    assert found(store, "needle") == set()
