"""What a server refuses while it is there: for now, and for ever."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    Producer,
    ServerRefusedError,
    ServerUnavailableError,
)
from backscroll.spool.queue import read_spool
from tests.processes import wait_for
from tests.test_spool import Road, say, wait_until_sent

HI = ChatMessage.user("hi")


@pytest.fixture
def road(server_url: str, tmp_path: Path) -> Road:
    return Road(server_url, tmp_path)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@contextmanager
def refusing(client: redis.Redis, why: str) -> Iterator[None]:
    """The server refuses writes meanwhile."""
    begin, end = REFUSALS[why]
    try:
        begin(client)
        yield
    finally:
        end(client)


def set_to(name: str, value: int) -> Callable[[redis.Redis], None]:
    def set_it(client: redis.Redis) -> None:
        client.config_set(name, value)

    return set_it


def be_replica(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", 1)


def be_primary(client: redis.Redis) -> None:
    client.replicaof("NO", "ONE")
    client.config_set("replica-serve-stale-data", "yes")


def be_stale_replica(client: redis.Redis) -> None:
    client.config_set("replica-serve-stale-data", "no")
    be_replica(client)


def save_in_vain(client: redis.Redis) -> None:
    client.config_set("save", "3600 1")
    snapshot(client).unlink(missing_ok=True)
    snapshot(client).mkdir()
    with suppress(redis.ResponseError):
        client.bgsave()
    wait_for(lambda: client.info()["rdb_last_bgsave_status"] == "err", "the save to fail")


def save_again(client: redis.Redis) -> None:
    snapshot(client).rmdir()
    client.config_set("save", "")
    client.bgsave()
    wait_for(lambda: client.info()["rdb_last_bgsave_status"] == "ok", "a save")


def snapshot(client: redis.Redis) -> Path:
    return Path(str(client.config_get("dir")["dir"]), "dump.rdb")


def run_endless_script(client: redis.Redis) -> None:
    client.config_set("busy-reply-threshold", 50)
    threading.Thread(target=lambda: run_endless(client)).start()
    wait_for(lambda: is_busy(client), "the script to be busy")


def kill_script(client: redis.Redis) -> None:
    client.script_kill()
    wait_for(lambda: not is_busy(client), "the script to end")


REFUSALS: dict[str, tuple[Callable[[redis.Redis], None], Callable[[redis.Redis], None]]] = {
    "OOM": (set_to("maxmemory", 1), set_to("maxmemory", 0)),
    "NOREPLICAS": (set_to("min-replicas-to-write", 1), set_to("min-replicas-to-write", 0)),
    "READONLY": (be_replica, be_primary),
    "MASTERDOWN": (be_stale_replica, be_primary),
    "MISCONF": (save_in_vain, save_again),
    "BUSY": (run_endless_script, kill_script),
}


def run_endless(client: redis.Redis) -> None:
    with suppress(redis.RedisError):
        client.eval("while true do end", 0)


def is_busy(client: redis.Redis) -> bool:
    try:
        return not client.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")


@pytest.mark.parametrize("why", list(REFUSALS))
def test_what_a_server_refuses_for_now_waits_in_the_spool(
    server_url: str, client: redis.Redis, spool: Path, why: str
) -> None:
    with Producer(server_url, spool=spool) as producer:
        ids = say(producer, "a")
        with refusing(client, why):
            receipts = [producer.append("s", HI) for _ in range(3)]
            assert all(receipt.spooled for receipt in receipts)
        wait_until_sent(producer)
        ids += [receipt.op_id for receipt in receipts]
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [raw.decode() for raw in queued] == ids


@pytest.mark.parametrize("why", ["OOM", "NOREPLICAS", "READONLY"])
def test_without_a_spool_the_error_carries_an_operation_to_send_again(
    server_url: str, client: redis.Redis, why: str
) -> None:
    with Producer(server_url, retries=1) as producer:
        with refusing(client, why), pytest.raises(ServerUnavailableError) as caught:
            producer.append("s", HI)
        assert caught.value.retryable
        assert caught.value.operation is not None
        receipt = producer.send(caught.value.operation)
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [raw.decode() for raw in queued] == [receipt.op_id]


def test_a_full_queue_lets_a_spooling_producer_go_on(
    server_url: str, client: redis.Redis, spool: Path
) -> None:
    with Producer(server_url, spool=spool, max_queue_depth=2) as producer:
        receipts = [producer.append("s", HI) for _ in range(5)]
        assert [receipt.spooled for receipt in receipts] == [False] * 2 + [True] * 3
        taken: Any = client.lpop("rq:queue:backscroll", 2)
        wait_for(lambda: producer.spooled == 1, "two more to go")
        taken += client.lpop("rq:queue:backscroll", 2)
        wait_until_sent(producer)
        taken += client.lpop("rq:queue:backscroll", 2)
    assert [raw.decode() for raw in taken] == [receipt.op_id for receipt in receipts]


@pytest.fixture
def small_limits(client: redis.Redis) -> Iterator[None]:
    client.config_set("proto-max-bulk-len", 1024 * 1024)
    yield
    client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)


@pytest.mark.usefixtures("small_limits")
def test_what_the_server_will_never_take_is_set_aside_and_the_rest_goes(
    server_url: str, client: redis.Redis, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = ChatMessage.user("x" * 800_000)
    with Producer(server_url, spool=spool, timeout_seconds=60) as producer:
        ids = say(producer, "a")
        with pytest.raises(ServerRefusedError, match="set aside") as caught:
            producer.append("s", half, half, ack="stored")
        assert caught.value.operation is not None
        ids += say(producer, "b", "c")
        wait_until_sent(producer)
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [raw.decode() for raw in queued] == ids
    assert read_spool(spool).set_aside == 1
    assert caught.value.operation.op_id in caplog.text
    with closing(sqlite3.connect(spool)) as database:
        ((op_id, data),) = database.execute("SELECT op_id, data FROM set_aside")
    assert op_id == caught.value.operation.op_id
    assert b"x" * 800_000 in data


@pytest.mark.usefixtures("small_limits")
def test_without_a_spool_the_error_says_that_the_operation_is_too_large(
    server_url: str, client: redis.Redis
) -> None:
    half = ChatMessage.user("x" * 800_000)

    async def use() -> list[Any]:
        async with AsyncProducer(server_url, retries=1) as producer:
            calls = [producer.append("k", HI), producer.append("k", half, half)]
            return await asyncio.gather(*calls, producer.append("k", HI), return_exceptions=True)

    with (
        Producer(server_url, retries=1) as producer,
        pytest.raises(ServerRefusedError, match=r"1,600,.*proto-max-bulk-len"),
    ):
        producer.append("k", half, half)
    first, large, last = asyncio.run(use())
    assert isinstance(large, ServerRefusedError)
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [raw.decode() for raw in queued] == [first.op_id, last.op_id]


def test_a_job_whose_key_is_taken_is_set_aside(
    road: Road, client: redis.Redis, spool: Path
) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, "a", "b", "c")
        client.set(f"rq:job:{ids[1]}", "something else")
        road.open()
        wait_until_sent(producer)
    assert road.queued() == [ids[0], ids[2]]
    assert read_spool(spool).set_aside == 1
