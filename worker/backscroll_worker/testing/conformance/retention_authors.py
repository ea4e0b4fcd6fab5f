"""What every store promises of retention rules that name authors."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import traces
from backscroll_worker.testing.conformance.retention import by_rule
from backscroll_worker.testing.fixtures import Rules
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    bring_back,
    contents,
    found,
    keys,
)

NEEDS = "archive"

RULES = """
    [[rule]]
    author = "*"
    ttl = "30h"
    [[rule]]
    author = "*-bot"
    ttl = "7h"
    [[rule]]
    author = "news-bot"
    room = "legal"
    ttl = "forever"
    [[rule]]
    key = "capped"
    keep_messages = 3
"""


def said(clock: Clock, hours_ago: float, author: str | None, text: str, **more: Any) -> ChatMessage:
    at = from_micros(clock.now - int(hours_ago * HOUR))
    return ChatMessage("user", text, created_at=at, author=author, **more)


def room(clock: Clock, *more: ChatMessage) -> tuple[ChatMessage, ...]:
    return (
        said(clock, 90, "ada", "a90", platform_id="m1"),
        said(clock, 80, None, "n80"),
        said(clock, 20, "ada", "a20"),
        said(clock, 10, "news-bot", "b10 quagga", platform_id="m2"),
        said(clock, 9, "news-bot", "b9 quagga"),
        said(clock, 8, "ada", "a8"),
        said(clock, 2, "news-bot", "b2"),
        *more,
    )


@pytest.mark.needs("search", "files")
@pytest.mark.parametrize("with_archive", [False, True])
def test_rules_for_authors_take_what_each_said_long_ago(
    store: StoreUnderTest, clock: Clock, rules: Rules, archive: Archive, with_archive: bool
) -> None:
    for key in ("group", "legal", "pinned", "capped"):
        store.append(key, *room(clock))
    store.describe("legal", room="legal")
    store.describe("pinned", pinned=True)
    before, texts = store.session("group"), contents(store, "group")
    retention = rules(RULES)
    dry = finish(store.cleanup(retention, dry_run=True))
    assert contents(store, "group") == texts
    wet = finish(store.cleanup(retention, archive=archive if with_archive else None))
    assert contents(store, "group") == ["n80", "a20", "a8", "b2"]
    assert contents(store, "legal") == texts[1:]
    assert contents(store, "pinned") == texts
    assert contents(store, "capped") == ["a8", "b2"], "four by the cap, one by its author"
    totals = {"author=*": (0, 0, 2), "author=*-bot": (0, 0, 3), "key=capped": (0, 0, 4)}
    assert by_rule(dry) == by_rule(wet) == totals
    assert (wet.sessions, wet.messages, wet.capped) == (0, 0, 9)
    after = store.session("group")
    assert before is not None
    assert after is not None
    assert (after.message_count, after.last_activity) == (4, before.last_activity)
    assert found(store, "quagga") == {"b10 quagga", "b9 quagga"}, "in legal and pinned"
    store.append("group", *room(clock)[:1], *room(clock)[3:4])
    assert contents(store, "group") == ["n80", "a20", "a8", "b2"], "it had these ids"
    assert finish(store.cleanup(retention)).capped == 0
    if with_archive:
        assert archive.verify() == []
        assert bring_back(store, archive, "group", into="copy").messages == 3
        assert contents(store, "copy") == ["a90", "b10 quagga", "b9 quagga"]
        assert bring_back(store, archive, "capped").messages == 5
        assert contents(store, "capped") == texts
        store.delete("legal")
        store.delete("pinned")
        receipt = finish(store.erase(author="news-bot"))
        assert receipt.sessions
        assert found(store, "quagga") == set()
    assert store.verify(deep=True) == []


def test_a_rule_for_authors_takes_nothing_out_of_order_or_of_the_future(
    store: StoreUnderTest, clock: Clock, rules: Rules
) -> None:
    store.append(
        "s",
        said(clock, -9_000, "ada", "of the future"),
        said(clock, 40, "ada", "first"),
        said(clock, 3, "ada", "young"),
        said(clock, 90, "ada", "late"),
        said(clock, 90, "bob", "first of bob"),
    )
    finish(store.cleanup(rules(RULES)))
    assert contents(store, "s") == ["of the future", "young", "late"]
    clock.advance(hours=28)
    finish(store.cleanup(rules(RULES)))
    assert contents(store, "s") == ["of the future"]
    assert keys(store) == {"s"}


@pytest.mark.needs("files", "search")
def test_what_many_said_goes_in_slices_while_others_write(
    store: StoreUnderTest, clock: Clock, rules: Rules, archive: Archive
) -> None:
    old = [said(clock, 50, f"a{number % 3}", f"quagga {number}") for number in range(600)]
    store.append("s", *old)
    for number in range(12):
        store.append(f"t{number}", *old[number * 2 : number * 2 + 2], said(clock, 1, "a0", "new"))
    slices, number = store.cleanup(rules(RULES), archive=archive), 0
    for number, _ in enumerate(slices, start=1):
        store.append("s", said(clock, 0, "a1", "meanwhile"))
        if number == 1:
            assert store.remove("t3", store.load("t3")[0].message_id or "")
            store.describe("t4", pinned=True)
    assert contents(store, "s") == ["meanwhile"] * number
    assert {key: len(contents(store, key)) for key in keys(store) - {"s"}} == {
        f"t{number}": 3 if number == 4 else 1 for number in range(12)
    }
    assert archive.verify() == []
    store.delete("t4")
    finish(store.compact(1))
    assert traces(store, "quagga") == set()
    assert bring_back(store, archive, "s").messages == 600
    assert contents(store, "s")[:600] == [message.content for message in old]
    assert store.verify(deep=True) == []
