"""Every call of the contract, through a real queue and a real worker, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, OperationRefusedError, Producer, SearchFilter
from backscroll.contract import answers
from backscroll.transport.acks import ACKS
from backscroll_worker.settings import Settings
from tests.processes import in_flight, running_worker


@pytest.fixture(params=["sqlite", "jsonl"])
def producer(
    request: pytest.FixtureRequest, settings: Settings, tmp_path: Path
) -> Iterator[Producer]:
    """A producer in front of a running worker."""
    assert settings.redis_url is not None
    url = settings.redis_url
    settings = settings.with_options(store=f"{request.param}://{tmp_path / 'store'}")
    with redis.Redis.from_url(url) as client:
        with (
            running_worker(settings, client, tmp_path / "worker.log"),
            Producer(url) as producer,
        ):
            yield producer
        assert in_flight(client) == []


def contents(producer: Producer, key: str) -> list[str]:
    return [message.content for message in producer.load(key)]


def test_an_adapter_reads_its_own_writes(producer: Producer) -> None:
    before = datetime.now(UTC)
    receipt = producer.append(
        "slack/thread:123/user",
        ChatMessage.user("hello", ts="1.2"),
        ChatMessage.assistant("hi there"),
    )
    first, second = producer.load("slack/thread:123/user")
    assert (first.role, first.content, first.extra) == ("user", "hello", {"ts": "1.2"})
    assert (second.role, second.content, second.extra) == ("assistant", "hi there", None)
    assert (first.message_id, second.message_id) == receipt.message_ids
    assert first.created_at is not None
    assert before <= first.created_at <= datetime.now(UTC)


def test_rollback_drops_the_last_message_or_exactly_the_one_named(producer: Producer) -> None:
    ids = [producer.append("k", ChatMessage.user(text)).message_ids[0] for text in "abcd"]
    producer.rollback("k", ids[1])
    producer.rollback("k")
    assert contents(producer, "k") == ["a", "c"]
    assert producer.rollback("k", ids[1], ack="stored").affected == 0
    assert producer.rollback("nobody", ack="stored").affected == 0


def test_replace_puts_new_content_in_the_same_place(producer: Producer) -> None:
    ids = [producer.append("k", ChatMessage.user(text)).message_ids[0] for text in "abc"]
    producer.replace("k", ChatMessage.user("B", edited=True), ids[1])
    producer.replace("k", ChatMessage.assistant("C"))
    messages = producer.load("k")
    assert [message.content for message in messages] == ["a", "B", "C"]
    assert [message.message_id for message in messages] == ids
    assert messages[1].extra == {"edited": True}
    assert messages[2].role == "assistant"


def test_clear_keeps_the_session_and_delete_does_not(producer: Producer) -> None:
    producer.append("k", ChatMessage.user("a"))
    producer.describe("k", name="Ann")
    assert producer.clear("k", ack="stored").affected == 1
    session = producer.session("k")
    assert session is not None
    assert (session.name, session.message_count) == ("Ann", 0)
    producer.delete("k")
    assert not producer.exists("k")


def test_attributes_are_set_found_and_cleared(producer: Producer) -> None:
    producer.describe("k", agent="a1", channel="slack", room="r", sender="s", pinned=True)
    producer.describe("k", state="running", turn_id="t1", name=None)
    producer.describe("other", agent="a1", channel="web")
    session = producer.session("k")
    assert session is not None
    assert (session.state, session.turn_id, session.pinned) == ("running", "t1", True)
    assert session.turn_started_at is not None
    assert [found.key for found in producer.sessions(channel="slack").sessions] == ["k"]
    assert [found.key for found in producer.sessions(state="running").sessions] == ["k"]
    assert [found.key for found in producer.sessions(stuck_seconds=0).sessions] == ["k"]
    assert producer.sessions(stuck_seconds=3600).sessions == ()
    assert producer.rename_agent("a1", "a2", ack="stored").affected == 2
    assert len(producer.sessions(agent="a2").sessions) == 2
    producer.rename_agent("a2", None)
    assert producer.sessions(agent="a2").sessions == ()


def test_sessions_are_found_by_their_name_and_by_when_they_were_active(producer: Producer) -> None:
    producer.describe("old", name="Café plans")
    producer.append("old", ChatMessage.user("x"), ack="stored")
    between = datetime.now(UTC)
    producer.describe("new", name="Plan B")
    assert [found.key for found in producer.sessions(name="plan").sessions] == ["new", "old"]
    assert [found.key for found in producer.sessions(name="cafe pl").sessions] == ["old"]
    assert [found.key for found in producer.sessions(active_since=between).sessions] == ["new"]
    assert [found.key for found in producer.sessions(active_until=between).sessions] == ["old"]
    assert producer.sessions(name="cafe", active_since=between).sessions == ()


def test_sessions_come_a_page_at_a_time_newest_first(producer: Producer) -> None:
    for number in range(5):
        producer.append(f"s{number}", ChatMessage.user("x"))
    keys, cursor = [], None
    while True:
        page = producer.sessions(limit=2, cursor=cursor)
        keys += [session.key for session in page.sessions]
        if (cursor := page.cursor) is None:
            break
    assert sorted(keys) == [f"s{number}" for number in range(5)]
    activity = [session.last_activity for session in producer.sessions().sessions]
    assert activity == sorted(activity, reverse=True)


def test_load_gives_the_tail_and_pages_back(producer: Producer) -> None:
    for number in range(7):
        producer.append("k", ChatMessage.user(str(number)))
    newest = producer.load("k", limit=3)
    earlier = producer.load("k", limit=3, before=newest[0].message_id)
    assert [message.content for message in earlier + newest] == list("123456")
    with pytest.raises(OperationRefusedError, match="has no message"):
        producer.load("k", before="00")
    around = producer.load("k", limit=3, around=newest[0].message_id)
    assert [message.content for message in around] == list("345")
    with pytest.raises(OperationRefusedError, match="has no message"):
        producer.load("k", around="00")


def test_search_comes_in_pages_and_by_session(producer: Producer) -> None:
    for number in range(5):
        producer.append(f"s{number % 2}", ChatMessage.user(f"fox {number}"))
    producer.describe("s0", room="hall", agent="main")
    first = producer.search("fox", limit=3)
    rest = producer.search("fox", limit=3, cursor=first.cursor)
    contents = [hit.message.content for hit in [*first, *rest]]
    assert contents == [f"fox {number}" for number in (4, 3, 2, 1, 0)]
    assert rest.cursor is None
    hits = producer.search("fox", by_session=True)
    assert [(hit.key, hit.session_matches) for hit in hits] == [("s0", 3), ("s1", 2)]
    (hit,) = producer.search("fox", SearchFilter(room="hall", agent="main"), by_session=True)
    assert hit.message.content == "fox 4"
    with pytest.raises(OperationRefusedError, match="cursor"):
        producer.search("hen", cursor=first.cursor)


def test_search_looks_in_extra_when_asked(producer: Producer) -> None:
    producer.append("k", ChatMessage.user("see there", file="ticket.pdf"), ack="stored")
    assert not producer.search("pdf")
    page = producer.search("pdf -txt", within="extra")
    assert [hit.highlighted() for hit in page] == ["ticket.[pdf]"]
    assert page.excluded == ("txt",)


def test_search_finds_and_marks(producer: Producer) -> None:
    producer.append("k", ChatMessage.user("the quick brown fox"))
    producer.append("k", ChatMessage.assistant("人工知能は楽しい"))
    producer.describe("k", channel="web", sender="ann")
    (hit,) = producer.search('"brown fox"')
    assert hit.highlighted() == "the quick [brown fox]"
    (hit,) = producer.search("知能", SearchFilter(channel="web", sender="ann", role="assistant"))
    assert hit.highlighted("<", ">") == "人工<知能>は楽しい"
    assert not producer.search("fox", SearchFilter(until=datetime(2020, 1, 1, tzinfo=UTC)))
    since = datetime.now(UTC) - timedelta(hours=1)
    assert len(producer.search("fox", SearchFilter(key="k", since=since))) == 1


def test_a_dedup_key_stores_a_platform_message_once(producer: Producer) -> None:
    first = producer.append("k", ChatMessage.user("hi"), dedup_key="update-1", ack="stored")
    again = producer.append("k", ChatMessage.user("hi"), dedup_key="update-1", ack="stored")
    assert (first.duplicate, first.affected) == (False, 1)
    assert (again.duplicate, again.affected) == (True, 1)
    assert again.message_ids == first.message_ids
    assert contents(producer, "k") == ["hi"]
    producer.rollback("k")
    producer.append("k", ChatMessage.user("hi"), dedup_key="update-1")
    assert contents(producer, "k") == []  # it was stored once, and taken back


def test_a_repeat_that_waits_longer_than_the_first_call_gets_its_answer(
    producer: Producer,
) -> None:
    calls = [
        producer.append("k", ChatMessage.user("hi"), dedup_key=f"u{number}", ack=ack)
        for number in range(5)
        for ack in ACKS[::2]
    ]
    assert all(call.affected == 1 for call in calls[1::2])
    assert len(producer.load("k")) == 5


def test_cleanup_and_compact_report_what_they_did(producer: Producer) -> None:
    producer.append("old", ChatMessage.user("a"), ChatMessage.user("b"))
    producer.describe("kept", pinned=True)
    would = producer.cleanup(0, dry_run=True)
    assert (would.sessions, would.messages, would.keys, would.dry_run) == (1, 2, ("old",), True)
    assert producer.exists("old")
    did = producer.cleanup(0)
    assert (did.sessions, did.messages, did.dry_run) == (1, 2, False)
    assert not producer.exists("old")
    assert producer.exists("kept")
    assert producer.compact().bytes_after >= 0


def test_cleanup_without_any_rule_goes_by_the_sessions_own_ttls(producer: Producer) -> None:
    producer.append("plain", ChatMessage.user("a"))
    producer.append("kept", ChatMessage.user("b"), session={"ttl_hours": 1})
    producer.describe("other", ttl_hours=1e-9, ack="stored")
    session = producer.session("kept")
    assert session is not None
    assert session.ttl_hours == 1
    assert producer.cleanup().keys == ("other",)
    assert {info.key: info.ttl_hours for info in producer.sessions()} == {"plain": None, "kept": 1}
    assert producer.cleanup(0).keys == ("plain",)


def test_the_asyncio_producer_does_all_the_same(producer: Producer) -> None:
    async def use() -> None:
        async with AsyncProducer(producer.url) as own:
            receipt = await own.append("k", ChatMessage.user("a"), ack="stored")
            assert (receipt.affected, receipt.duplicate) == (1, False)
            await own.append("k", ChatMessage.user("b"), ack="fsynced")
            await own.replace("k", ChatMessage.user("A"), receipt.message_ids[0])
            await own.describe("k", agent="x", state="running")
            await own.rename_agent("x", "y")
            assert [message.content for message in await own.load("k")] == ["A", "b"]
            around = await own.load("k", 1, around=receipt.message_ids[0])
            assert [message.content for message in around] == ["A"]
            await own.rollback("k")
            session = await own.session("k")
            assert session is not None
            assert (session.agent, session.state, session.message_count) == ("y", "running", 1)
            assert len(await own.search("a", by_session=True, limit=1)) == 1
            listed = await own.sessions(agent="y", active_since=session.created_at)
            assert listed.sessions == (session,)
            assert (await own.sessions(name="x", active_until=session.created_at)).sessions == ()
            await own.clear("k")
            await own.delete("k")
            assert not await own.exists("k")
            assert (await own.cleanup(1)).sessions == 0
            assert (await own.compact()).seconds >= 0
            with pytest.raises(OperationRefusedError):
                await own.load("gone-too", before="x" * 32) or await own.sessions(cursor="bad")

    asyncio.run(use())


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (answers.answered_cleanup, {"sessions": 1, "messages": 2}),
        (answers.answered_hits, {"hits": [{"key": "quagga"}], "cursor": None}),
        (answers.answered_hits, ["quagga"]),
        (answers.answered_page, {"sessions": []}),
        (answers.answered_messages, None),
        (answers.answered_messages, [{"content": "quagga"}]),
        (answers.answered_session, 3),
        (answers.answered_erasure, None),
    ],
)
def test_an_answer_of_another_version_is_one_error_that_quotes_nothing(
    read: Callable[[Any], object], answer: Any
) -> None:
    with pytest.raises(OperationRefusedError, match=r"update the (worker|older one)") as caught:
        read(answer)
    assert "quagga" not in str(caught.value)
