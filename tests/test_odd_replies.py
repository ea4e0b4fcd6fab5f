"""Replies and results that no Backscroll made: an error of ours for the call that they answer."""

from __future__ import annotations

import asyncio
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    OperationRefusedError,
    Producer,
    ServerRefusedError,
)
from tests.processes import wait_for
from tests.test_spool import Road, say, wait_until_sent
from tests.test_spool_adversity import Babbling

HI = ChatMessage.user("hi")

UNREADABLE = {
    "no UTF-8": b"*1\r\n*2\r\n:-2\r\n$3\r\n\xff\xfe\xfd\r\n",
    "a list as a key": b"%1\r\n*0\r\n:1\r\n",
    "no number": b"*abc\r\n",
    "nested without end": b"*1\r\n" * 3_000 + b":1\r\n",
    "an error inside": b"*1\r\n*2\r\n:1\r\n-ERR inside\r\n",
}

FOREIGN: dict[str, dict[Any, Any]] = {
    "without a type": {"return_value": b64encode(b"[]")},
    "no number for a type": {"type": "x", "return_value": b64encode(b"[]")},
    "no base64": {"type": 1, "return_value": "@"},
    "pickled": {"type": 1, "return_value": b64encode(b"\x80\x04].")},
    "another shape": {"type": 1, "return_value": b64encode(b'[{"x": 5}]')},
    "nothing": {"type": 1},
    "a failure without a reason": {"type": 2},
    "an empty reason": {"type": 2, "exc_string": b64encode(zlib.compress(b""))},
    "a reason that is not compressed": {"type": 2, "exc_string": b64encode(b"hello")},
    "a reason that is no UTF-8": {"type": 2, "exc_string": b64encode(zlib.compress(b"\xff"))},
    "stopped": {"type": 3},
}


@pytest.fixture
def without_hiredis(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py's own parser, which an adapter has that installs nothing else."""
    monkeypatch.setattr("redis.connection.DefaultParser", redis._parsers._RESP3Parser)
    initial: Any = redis.connection.Connection.__init__

    def init(connection: Any, *arguments: Any, **named: Any) -> None:
        initial(connection, *arguments, parser_class=redis._parsers._RESP3Parser, **named)

    monkeypatch.setattr(redis.connection.Connection, "__init__", init)


@pytest.mark.parametrize("odd", UNREADABLE)
@pytest.mark.parametrize("parser", ["hiredis", "without_hiredis"])
def test_a_reply_that_cannot_be_read_is_an_error_of_its_own_call(
    request: pytest.FixtureRequest, server_url: str, odd: str, parser: str
) -> None:
    if parser != "hiredis":
        request.getfixturevalue(parser)
    socket = server_url.removeprefix("unix://")

    async def use(proxy: Babbling) -> None:
        async with AsyncProducer(proxy.url) as producer:
            with pytest.raises((ServerRefusedError, OperationRefusedError)) as caught:
                await producer.append("k", HI)
            assert caught.value.operation is not None
            await producer.append("k", HI)

    with Babbling(socket, UNREADABLE[odd]) as proxy, Producer(proxy.url) as producer:
        with pytest.raises((ServerRefusedError, OperationRefusedError)) as caught:
            producer.append("k", HI)
        assert caught.value.operation is not None
        producer.append("k", HI)
    with Babbling(socket, UNREADABLE[odd]) as proxy:
        asyncio.run(use(proxy))


@pytest.mark.parametrize("kind", ["load", "append", "search", "sessions", "erase"])
def test_a_result_of_another_program_is_an_error_of_its_own_call(
    server_url: str, client: redis.Redis, kind: str
) -> None:
    def ask(producer: Producer) -> Any:
        asks: dict[str, Callable[[], Any]] = {
            "load": lambda: producer.load("k"),
            "append": lambda: producer.append("k", HI, ack="stored"),
            "search": lambda: producer.search("k"),
            "sessions": producer.sessions,
            "erase": lambda: producer.erase(key="k"),
        }
        return asks[kind]()

    def job_ids(count: int) -> list[str]:
        ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
        return [raw.decode() for raw in ids] if len(ids) == count else []

    def answer() -> None:
        for number, fields in enumerate(FOREIGN.values(), start=2):
            ids = wait_for(lambda number=number: job_ids(number), "the call")  # type: ignore[misc]
            client.xadd(f"rq:results:{ids[-1]}", fields)

    with Producer(server_url, timeout_seconds=60, retries=0) as producer:
        others: list[Any] = []
        other = threading.Thread(target=lambda: others.append(producer.load("other")))
        other.start()
        first = wait_for(lambda: job_ids(1), "another call")
        answering = threading.Thread(target=answer)
        answering.start()
        for _ in FOREIGN:
            with pytest.raises(OperationRefusedError, match=r"\w{5}"):
                ask(producer)
        answering.join()
        client.xadd(f"rq:results:{first[0]}", {"type": 1, "return_value": b64encode(b"[]")})
        other.join()
        assert others == [[]]


def test_a_dropped_connection_fails_no_call_of_a_producer_with_a_spool(
    server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    with Producer(server_url, spool=tmp_path / "spool.db", timeout_seconds=5) as producer:
        ids = say(producer, "a")
        client.client_kill_filter(_type="normal", skipme=True)
        assert not producer.append("s", HI).spooled
        client.client_kill_filter(_type="normal", skipme=True)
        loaded: list[Any] = []
        loading = threading.Thread(target=lambda: loaded.append(producer.load("s")))
        loading.start()
        wait_for(lambda: client.llen("rq:queue:backscroll") == 3, "the read")
        queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
        client.xadd(
            f"rq:results:{queued[-1].decode()}", {"type": 1, "return_value": b64encode(b"[]")}
        )
        loading.join()
    assert loaded == [[]]
    assert queued[0].decode() == ids[0]


def test_an_erasure_that_was_spooled_is_waited_for(server_url: str, tmp_path: Path) -> None:
    road = Road(server_url, tmp_path)
    with Producer(road.url, spool=tmp_path / "spool.db", timeout_seconds=60) as producer:
        road.close()
        say(producer, "a")
        failures: list[Any] = []

        def erase() -> None:
            with pytest.raises(OperationRefusedError) as caught:
                producer.erase(key="s")
            failures.append(caught.value.operation)

        erasing = threading.Thread(target=erase)
        erasing.start()
        wait_for(lambda: producer.spooled == 2, "the erasure to be spooled")
        road.open()
        wait_until_sent(producer)
        with redis.Redis.from_url(server_url) as client:
            client.xadd(f"rq:results:{road.queued()[-1]}", {"type": 2})
        erasing.join()
    assert failures[0].kind == "erase"


def test_more_threads_than_a_pool_has_room_for_can_write_at_once(
    server_url: str, client: redis.Redis
) -> None:
    stack = threading.stack_size(256 * 1024)
    failures: list[Exception] = []
    with Producer(server_url, retries=0) as producer:

        def write() -> None:
            try:
                producer.append("s", HI)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=write) for _ in range(120)]
        client.client_pause(60_000, all=False)
        for thread in threads:
            thread.start()
        wait_for(lambda: len(client.client_list(_type="normal")) > 120, "all to have connected")
        client.client_unpause()
        for thread in threads:
            thread.join()
    threading.stack_size(stack)
    assert failures == []
    assert client.llen("rq:queue:backscroll") == 120
