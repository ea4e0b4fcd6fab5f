"""What every store promises of a session's own keys and values."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionFilter, SessionInfo
from backscroll.contract.meta import MAX_META_BYTES
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.conformance.listing import all_keys
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    keys,
    requests,
    say,
)

VALUES: dict[str, Any] = {
    "project": "x", "empty": "", "quote\"'": "日本語 😀", "count": 3, "share": 0.1,
    "big": 2**63 - 1, "tiny": 5e-324, "odd": 1 / 3, "on": True, "off": False,
    "text": "1", "$.a[0]": "path",
}  # fmt: skip


def info_of(store: StoreUnderTest, key: str = "s") -> SessionInfo:
    info = store.session(key)
    assert info is not None
    return info


def with_meta(store: StoreUnderTest, **meta: Any) -> set[str]:
    return {info.key for info in store.sessions(meta=meta)}


def test_values_are_set_kept_and_cleared_one_by_one(open_store: Open) -> None:
    with open_store() as store:
        store.describe("s", meta={"a": 1, "b": "x"}, name="N")
        store.describe("s", meta={"b": None, "c": True, "d": None})
        assert info_of(store).meta == {"a": 1, "c": True}
        store.describe("s", agent="A")
        assert info_of(store).meta == {"a": 1, "c": True}
        store.describe("other", meta={"b": None})
        assert info_of(store, "other").meta == {}
    with open_store() as store:
        assert info_of(store).meta == {"a": 1, "c": True}
        assert info_of(store).name == "N"
        store.describe("s", meta=None)
        assert info_of(store).meta == {}
        assert with_meta(store, a=1) == set()
        assert store.verify() == []


def test_every_value_comes_back_and_is_found_by_it(open_store: Open) -> None:
    with open_store() as store:
        store.describe("s", meta=VALUES)
        say(store, "other", "x")
    store = open_store()
    assert info_of(store).meta == VALUES
    for name, value in VALUES.items():
        assert type(info_of(store).meta[name]) is type(value)
        assert with_meta(store, **{name: value}) == {"s"}, name
    assert with_meta(store, **VALUES) == {"s"}
    assert with_meta(store) == {"s", "other"}


def test_a_value_is_found_by_its_own_type_only(store: StoreUnderTest) -> None:
    values: dict[str, Any] = {"one": 1, "float": 1.0, "true": True, "text": "1", "word": "true"}
    for key, value in values.items():
        store.describe(key, meta={"v": value})
    assert with_meta(store, v=1) == with_meta(store, v=1.0) == {"one", "float"}
    assert with_meta(store, v=True) == {"true"}
    assert with_meta(store, v="1") == {"text"}
    assert with_meta(store, v="true") == {"word"}
    assert with_meta(store, v=False) == with_meta(store, w=1) == set()


def test_an_append_brings_what_the_session_lacks(store: StoreUnderTest) -> None:
    hi = ChatMessage.user("hi")
    store.append("s", hi, session={"meta": {"project": "x", "n": 1}})
    store.append("s", hi, session={"meta": {"n": 2}, "channel": "slack"})
    store.append("s", hi, session={"meta": {"n": 2}})
    assert info_of(store).meta == {"project": "x", "n": 2}
    store.append("s", hi, session={"meta": {"n": None}})
    assert info_of(store).meta == {"project": "x"}
    assert with_meta(store, n=2) == set()


def test_more_than_fits_is_refused_and_changes_nothing(store: StoreUnderTest) -> None:
    store.describe("s", meta={"a": "x" * (MAX_META_BYTES - 100)})
    before = info_of(store)
    more: Any = {"meta": {"b": "y" * 100}, "name": "N"}
    late = requests.append("s", (ChatMessage.user("hi"),), None, more)
    for refused in (requests.describe("s", more), late):
        (answer,) = store.apply([refused])
        assert isinstance(answer, OperationRefusedError)
        assert "16,384" in str(answer)
        assert info_of(store) == before
    store.describe("s", meta={"a": "z", **more["meta"]})
    assert len(info_of(store).meta) == 2


@pytest.mark.parametrize(
    "meta",
    [
        "text", {1: "a"}, {"": "a"}, {"a\n": 1}, {"a": "b\0"}, {"a": []}, {"a": {}}, {"a": 2**63},
        {"a": float("nan")}, {"a": float("inf")}, {"a": "x" * MAX_META_BYTES}, {"a": b"x"},
    ],
)  # fmt: skip
def test_what_is_not_a_value_is_refused_before_it_is_sent(store: StoreUnderTest, meta: Any) -> None:
    with pytest.raises(InvalidInputError, match="meta"):
        store.describe("s", meta=meta)
    with pytest.raises(InvalidInputError, match="meta"):
        store.sessions(meta=meta)
    assert store.session("s") is None


def test_no_session_is_listed_by_a_cleared_value(store: StoreUnderTest) -> None:
    with pytest.raises(InvalidInputError, match="meta"):
        store.sessions(SessionFilter(meta={"a": None}))


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_by_meta_are_in_the_order_of_others(
    store: StoreUnderTest, clock: Clock, limit: int
) -> None:
    for number in range(20):
        key, channel = f"s{number}", "slack" if number % 3 else "irc"
        own: Any = {"channel": channel, "meta": {"even": number % 2 == 0, "third": number % 3}}
        store.append(key, ChatMessage.user("x"), session=own)
        clock.advance(seconds=1)
    say(store, "s4", "again")
    assert all_keys(store, limit, meta={"even": True, "third": 1}) == ["s4", "s16", "s10"]
    assert all_keys(store, limit, meta={"third": 0}, channel="slack") == []
    assert all_keys(store, limit, meta={"third": 2})[:2] == ["s17", "s14"]


def test_meta_goes_with_its_session_and_stays_when_it_is_cleared(
    store: StoreUnderTest, clock: Clock
) -> None:
    for key in ("cleared", "deleted", "erased", "idle"):
        store.append(key, ChatMessage.user("x"), session={"meta": {"a": 1}, "sender": key})
    store.clear("cleared")
    store.delete("deleted")
    finish(store.erase(sender="erased"))
    assert with_meta(store, a=1) == {"cleared", "idle"}
    clock.advance(hours=2)
    say(store, "cleared", "x")
    finish(store.cleanup(1))
    assert with_meta(store, a=1) == {"cleared"}
    for key in ("deleted", "erased", "idle"):
        say(store, key, "x")
        assert info_of(store, key).meta == {}
    assert store.verify() == []


def test_a_description_with_meta_counts_once(open_store: Open) -> None:
    first = requests.describe("s", {"meta": {"n": 1}})
    with open_store() as store:
        apply_all(store, [first, requests.describe("s", {"meta": {"n": 2}}), first])
    with open_store() as store:
        apply_all(store, [first])
        assert info_of(store).meta == {"n": 2}


def test_meta_is_imported(store: StoreUnderTest, clock: Clock) -> None:
    taken = ImportSession("1" * 32, clock.now, "s", (), {"meta": VALUES}, 5, 5)
    apply_all(store, [taken])
    assert info_of(store).meta == VALUES
    assert with_meta(store, share=0.1) == {"s"}


@pytest.mark.needs("archive")
def test_meta_comes_back_from_the_archive(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    store.append("s", ChatMessage.user("x"), session={"meta": VALUES})
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    assert keys(store) == set()
    bring_back(store, archive, "s")
    assert info_of(store).meta == VALUES
    assert with_meta(store, odd=1 / 3) == {"s"}
