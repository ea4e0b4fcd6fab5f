"""Calls that are cancelled, time out or are interrupted: `record_writes` has what they wrote."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncChatHistory,
    AsyncProducer,
    BackscrollError,
    ChatMessage,
    ConflictError,
    NotConfirmedError,
    Producer,
    RecordedWrite,
    record_writes,
)
from backscroll_worker.embedded import AsyncLocal, Local
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.proxy import LossyProxy
from tests.test_interruptions import InterruptionError, interrupted_at

HI = ChatMessage.user("hi")
OLD = ChatMessage.user("old", platform_id="old", created_at=datetime(2020, 1, 1, tzinfo=UTC))

Write = Callable[[Any, str], Awaitable[Any]]

WRITES: dict[str, Write] = {
    "append": lambda p, k: p.append(k, HI, ack="stored"),
    "backfill": lambda p, k: p.backfill(k, OLD, ack="stored"),
    "begin_turn": lambda p, k: p.begin_turn(k, HI),
    "clear": lambda p, k: p.clear(k, ack="stored"),
    "close_session": lambda p, k: p.close_session(k, ack="stored"),
    "delete": lambda p, k: p.delete(k, ack="stored"),
    "describe": lambda p, k: p.describe(k, name="n", ack="stored"),
    "end_turn": lambda p, k: p.end_turn(k, "t", ack="stored"),
    "fork": lambda p, k: p.fork(k, f"{k}-f"),
    "merge": lambda p, k: p.merge(k, f"{k}-m", ack="stored"),
    "pop": lambda p, k: p.pop(k),
    "rename": lambda p, k: p.rename(k, f"{k}-r", ack="stored"),
    "rename_agent": lambda p, k: p.rename_agent(f"agent of {k}", "b", ack="stored"),
    "reopen_session": lambda p, k: p.reopen_session(k, ack="stored"),
    "replace": lambda p, k: p.replace(k, ChatMessage.user("new"), ack="stored"),
    "reset": lambda p, k: p.reset(k, ack="stored"),
    "rewind": lambda p, k: p.rewind(k, f"{k} first", ack="stored"),
    "rollback": lambda p, k: p.rollback(k, ack="stored"),
    "set_state": lambda p, k: p.set_state(k, 1, ack="stored"),
    "splice": lambda p, k: p.splice(k, HI, remove=1, ack="stored"),
}
"""Each write once, on a session of which `prepared` has made what it changes."""


async def prepared(producer: Any, key: str) -> None:
    running = {"state": "running", "turn_id": "t", "agent": f"agent of {key}"}
    said = [ChatMessage.user(text, platform_id=f"{key} {text}") for text in ("first", "last")]
    await producer.append(key, *said, session=running, ack="stored")
    if "merge" in key or "begin_turn" in key:
        await producer.describe(key, state="idle", ack="stored")
        await producer.append(f"{key}-m", HI, ack="stored")


async def outcome(producer: Any, key: str) -> Any:
    """What a session and those beside it have come to, but for ids and times."""
    found = []
    for info in sorted(await producer.sessions(prefix=key), key=lambda info: info.key):
        texts = [message.content for message in await producer.load(info.key)]
        states = await producer.states(info.key)
        name = info.key.removeprefix(key).partition("~")[0]
        agent = (info.agent or "").replace(key, "")
        said = info.name, agent, info.state, info.closed, info.forked_from is None
        found.append((name, texts, said, states))
    return found


class CancelledAt:
    """Awaits a call, and cancels it where it waits for the time number `point`, from 0.

    At once, or, where it `is_late`, when that has come for which it waits. `came` says whether it
    waited so often.
    """

    def __init__(self, call: Coroutine[Any, Any, Any], point: int, *, is_late: bool) -> None:
        self.came = False
        self._call = call
        self._point = point
        self._is_late = is_late

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = 0
        try:
            future = self._call.send(None)
            while True:
                if waits != self._point:
                    yield future
                    future = self._call.send(None)
                else:
                    self.came = True
                    if self._is_late:
                        yield future
                    else:
                        future.cancel()
                    future = self._call.throw(asyncio.CancelledError())
                waits += 1
        except StopIteration as done:
            return done.value


def coroutine(call: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    assert inspect.iscoroutine(call)
    return call


def test_every_write_is_tried_here() -> None:
    kinds = inspect.getmembers(AsyncChatHistory, inspect.iscoroutinefunction)
    writes = {name for name, call in kinds if call.__annotations__.get("return") == "Receipt"}
    assert {*WRITES, "send"} == {name for name in writes if name[0] != "_"} | {"pop"}


@pytest.fixture(params=["queue", "spool", "embedded"])
def opened(
    request: pytest.FixtureRequest,
    settings: Settings,
    client: redis.Redis,
    log: Path,
    tmp_path: Path,
) -> Iterator[Callable[[], Any]]:
    """Opens a producer, whose worker runs if it needs one."""
    if request.param == "embedded":
        yield lambda: AsyncLocal(f"sqlite://{tmp_path / 'own.db'}")
        return
    spool = tmp_path / "spool" if request.param == "spool" else None
    with running_worker(settings, client, log):
        yield lambda: AsyncProducer(settings.redis_url, timeout_seconds=60, spool=spool)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_cancelled_wherever_it_waits_can_be_settled_and_is_done_once(
    opened: Callable[[], Any], name: str
) -> None:
    async def use() -> None:
        async with opened() as producer:
            expected, points = None, 0
            for is_late in (False, True):
                point, came = 0, True
                while came:
                    key = f"{name} {point} {is_late} "
                    await prepared(producer, key)
                    call = CancelledAt(
                        coroutine(WRITES[name](producer, key)), point, is_late=is_late
                    )
                    with record_writes() as writes:
                        try:
                            await call
                        except asyncio.CancelledError:
                            assert call.came
                        else:
                            assert not call.came
                    (write,) = writes
                    await settle(producer, write, is_settled=not call.came)
                    came, points = call.came, points + call.came
                    seen = await outcome(producer, key)
                    expected = expected or seen
                    assert seen == expected, (point, is_late)
                    point += 1
            assert points >= 2

    asyncio.run(use())


async def settle(producer: Any, write: RecordedWrite, *, is_settled: bool) -> None:
    """Send it again, and once more; each says what came of it the first time."""
    assert write.is_settled is is_settled
    assert write.error is None
    first = write.receipt or await producer.send(write.operation, "stored")
    again = await producer.send(write.operation, "stored")
    assert again == replace(first, duplicate=again.duplicate)


def test_a_call_that_was_cancelled_before_it_began_has_sent_nothing(
    opened: Callable[[], Any],
) -> None:
    async def use() -> None:
        async with opened() as producer:
            with record_writes() as writes:
                task = asyncio.ensure_future(producer.append("k", HI))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert [*writes] == []
            assert await producer.load("k") == []

    asyncio.run(use())


def test_a_timeout_of_the_callers_can_be_settled_when_there_is_a_worker_again(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    async def use() -> None:
        async with AsyncProducer(settings.redis_url, timeout_seconds=60) as producer:
            with record_writes() as writes:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(producer.append("k", HI, ack="stored"), 0.05)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await producer.pop("k")
                calls = [producer.append("k", HI, ack="stored") for _ in range(5)]
                gathered = asyncio.gather(*calls)
                await asyncio.sleep(0.05)
                gathered.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await gathered
                await producer.append("k", HI)
            assert [write.is_settled for write in writes] == [False] * 7 + [True]
            with running_worker(settings, client, log):
                receipts = [await producer.send(write.operation, "stored") for write in writes]
                assert [message.content for message in receipts[1].messages] == ["hi"]
                assert len(await producer.load("k")) == 6
                for write, receipt in zip(writes, receipts, strict=True):
                    again = await producer.send(write.operation, "stored")
                    assert again == replace(receipt, duplicate=again.duplicate)

    asyncio.run(use())


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_call_that_was_cancelled_while_replies_got_lost_is_done_once(
    server_url: str, client: redis.Redis, lost: int
) -> None:
    async def use() -> str:
        with LossyProxy(server_url.removeprefix("unix://")) as proxy:
            async with AsyncProducer(proxy.url) as producer:
                proxy.lose_replies(b"EVALSHA", lost)
                with record_writes() as writes:
                    task = asyncio.ensure_future(producer.append("k", HI))
                    while not proxy.lost:
                        await asyncio.sleep(0)
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                (write,) = writes
                assert write.is_settled is not task.cancelled()
                return (await producer.send(write.operation)).op_id

    op_id = asyncio.run(use())
    waiting: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [each.decode() for each in waiting] == [op_id]


def test_a_turn_that_is_cancelled_wherever_it_waits_leaves_nothing_of_it(
    opened: Callable[[], Any],
) -> None:
    async def turn(producer: Any, key: str) -> None:
        async with producer.turn(key, HI) as turn:
            await turn.append(ChatMessage("tool", "t"))
            await turn.stream("ho")
            await turn.stream("ho!")

    async def use() -> None:
        async with opened() as producer:
            point, came = 0, True
            while came:
                key = f"k{point}"
                await producer.append(key, ChatMessage.user("before"), ack="stored")
                call = CancelledAt(turn(producer, key), point, is_late=bool(point % 2))
                with record_writes() as writes, suppress(asyncio.CancelledError):
                    await call
                for write in writes:
                    if not write.is_settled:
                        with suppress(ConflictError):
                            await producer.send(write.operation, "stored")
                texts = [message.content for message in await producer.load(key)]
                came = call.came
                whole = ["before", "hi", "t", "ho!"]
                assert texts in ([["before"], whole] if came else [whole]), point
                info = await producer.session(key)
                assert info.state == ("idle" if texts == whole else "error")
                point += 1
            assert point > 5

    asyncio.run(use())


def test_what_was_refused_and_what_is_in_doubt_are_told_apart(
    settings: Settings, client: redis.Redis
) -> None:
    with Producer(settings.redis_url, timeout_seconds=0) as producer, record_writes() as writes:
        with pytest.raises(NotConfirmedError):
            producer.append("k", HI, expect_tail="x")
        with pytest.raises(BackscrollError, match="ack"):
            producer.append("k", HI, ack="said")  # type: ignore[arg-type]
        with pytest.raises(BackscrollError, match="key"):
            producer.append("", HI)
    in_doubt, refused = writes
    assert (in_doubt.is_settled, type(in_doubt.error)) == (False, NotConfirmedError)
    assert refused.is_settled
    assert in_doubt.error is not None
    assert in_doubt.error.operation is in_doubt.operation


def test_recorders_do_not_disturb_each_other_nor_see_what_is_outside(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncLocal(f"jsonl://{tmp_path / 'own'}") as local:

            async def say(text: str) -> list[RecordedWrite]:
                with record_writes() as own:
                    await local.append("k", ChatMessage.user(text))
                    await asyncio.sleep(0)
                    await local.describe("k", name=text)
                return [*own]

            await local.append("k", HI)
            with record_writes() as both:
                first, second = await asyncio.gather(say("a"), say("b"))
            await local.append("k", HI)
            assert {id(each) for each in both} == {id(each) for each in (*first, *second)}
            assert [each.operation.kind for each in first] == ["append", "describe"]
            said: list[Any] = [first[0].operation, second[0].operation]
            assert [each.messages[0].content for each in said] == ["a", "b"]
            assert all(each.receipt is not None for each in both)

    asyncio.run(use())


def test_a_blocking_call_that_was_interrupted_anywhere_can_be_settled(tmp_path: Path) -> None:
    line, came_to_it = 0, True
    with Local(f"sqlite://{tmp_path / 'own.db'}", redact=str.upper) as local:
        while came_to_it:
            line += 3
            key = str(line)
            places = ("/backscroll/calls.py", "/mailbox.py", "/embedded/local.py")
            with record_writes() as writes, interrupted_at(line, *places) as it_came:
                local.append(key, HI)
            came_to_it = it_came()
            for write in writes:
                assert (local.send(write.operation).affected, write.is_settled) in (
                    (1, False), (1, True),
                )  # fmt: skip
            assert [message.content for message in local.load(key)] == ["HI"] * len(writes)
    assert line > 20
    assert issubclass(InterruptionError, BaseException)
