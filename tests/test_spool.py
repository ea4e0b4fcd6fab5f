"""The producer's spool: nothing is lost while the server is unreachable, and order is kept."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll.contract.errors import (
    InvalidInputError,
    NotConfirmedError,
    ServerUnavailableError,
    SpoolFullError,
    SpoolUnusableError,
)
from backscroll.spool.queue import read_spool
from backscroll.transport.pinned_connection import PinnedConnection
from backscroll_worker.settings import Settings
from tests.prepared import run_prepared
from tests.processes import running_worker, wait_for
from tests.proxy import LossyProxy


class Road:
    """A way to the server that can be closed: a link to its socket, at `url`."""

    def __init__(self, server_url: str, place: Path) -> None:
        self._client = redis.Redis.from_url(server_url)
        self._socket = Path(server_url.removeprefix("unix://"))
        self._link = place / "road"
        self.url = f"unix://{self._link}"
        self.open()

    def open(self) -> None:
        self._link.symlink_to(self._socket)

    def close(self) -> None:
        self._link.unlink()
        self._client.client_kill_filter(_type="normal", skipme=True)

    def queued(self) -> list[str]:
        ids: Any = self._client.lrange("rq:queue:backscroll", 0, -1)
        return [raw.decode() for raw in ids]


@pytest.fixture
def road(server_url: str, tmp_path: Path) -> Road:
    return Road(server_url, tmp_path)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def say(producer: Producer, *texts: str) -> list[str]:
    return [producer.append("s", ChatMessage.user(text)).op_id for text in texts]


def wait_until_sent(producer: Producer | AsyncProducer) -> None:
    wait_for(lambda: producer.spooled == 0, "the spool to be empty")


def test_writes_wait_in_order_and_go_when_the_server_is_back(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool) as producer:
        ids = say(producer, "a")
        road.close()
        receipt = producer.append("s", ChatMessage.user("b"))
        assert receipt.spooled
        ids += [receipt.op_id, *say(producer, "c"), producer.rollback("s").op_id]
        assert producer.spooled == 3
        assert road.queued() == ids[:1]
        road.open()
        wait_until_sent(producer)
        assert road.queued() == ids
        receipt = producer.append("s", ChatMessage.user("d"))
        assert not receipt.spooled
        assert road.queued() == [*ids, receipt.op_id]


def test_many_more_than_a_batch_go_in_order(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, *map(str, range(1_200)))
        road.open()
        ids += say(producer, *map(str, range(50)))  # some behind the others, some straight
        wait_until_sent(producer)
    assert road.queued() == ids


KILLED = """
    import os, signal, sys
    from backscroll import ChatMessage, Producer
    producer = Producer(sys.argv[1], spool=sys.argv[2])
    for number in range(20):
        print(producer.append("s", ChatMessage.user(str(number))).op_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_prepared("-c", textwrap.dedent(program), *map(str, arguments))


def test_the_next_adapter_sends_a_killed_ones_spool_once_and_in_order(
    road: Road, spool: Path
) -> None:
    road.close()
    ids = [
        *run(KILLED, road.url, spool).stdout.split(),
        *run(KILLED, road.url, spool).stdout.split(),
    ]
    assert len(ids) == 40
    assert read_spool(spool).operations == 40
    road.open()
    with Producer(road.url, spool=spool) as producer:
        ids += say(producer, "later")
        wait_until_sent(producer)
    assert road.queued() == ids


def test_a_reply_lost_on_the_way_doubles_nothing(server_url: str, spool: Path) -> None:
    with (
        LossyProxy(server_url.removeprefix("unix://")) as proxy,
        Producer(proxy.url, spool=spool) as producer,
    ):
        say(producer, "a")
        proxy.lose_replies(b"EVALSHA", 3)  # the call's, and twice the forwarder's
        ids = say(producer, "b", "c")
        wait_until_sent(producer)
        assert proxy.lost == 3
    with redis.Redis.from_url(server_url) as client:
        queued: Any = client.lrange("rq:queue:backscroll", 1, -1)
    assert [raw.decode() for raw in queued] == ids


def test_a_full_spool_refuses_with_a_clear_error_and_keeps_what_it_has(
    road: Road, spool: Path
) -> None:
    with Producer(road.url, spool=spool, spool_max_bytes=1_000) as producer:
        road.close()
        ids = say(producer, "a", "b")
        with pytest.raises(SpoolFullError, match=r"spool\.db is full: it may hold 1,000 bytes"):
            producer.append("s", ChatMessage.user("x" * 1_000))
        ids += say(producer, "c")
        road.open()
        wait_until_sent(producer)
        ids += say(producer, "y" * 1_000)
    assert road.queued() == ids


def test_a_full_queue_keeps_the_rest_in_the_spool(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool, max_queue_depth=3) as producer:
        road.close()
        ids = say(producer, *"abcde")
        road.open()
        wait_for(lambda: len(road.queued()) == 3, "the queue to be full")
        with redis.Redis.from_url(road.url) as client:
            assert client.lpop("rq:queue:backscroll", 2) == [job.encode() for job in ids[:2]]
        wait_until_sent(producer)
    assert road.queued() == ids[2:]


def test_what_a_full_queue_refused_is_not_overtaken(
    road: Road, spool: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker takes jobs between two calls of one batch, and there is room again."""
    taken, run = list[str](), PinnedConnection.run

    def take_first(channel: PinnedConnection, *call: Any) -> Any:
        jobs: Any = client.lpop("rq:queue:backscroll", 30) or []
        taken.extend(job.decode() for job in jobs)
        return run(channel, *call)

    with Producer(road.url, spool=spool, max_queue_depth=40) as producer:
        road.close()
        ids = say(producer, *map(str, range(300)))
        monkeypatch.setattr(PinnedConnection, "run", take_first)
        road.open()
        wait_until_sent(producer)
    assert [*taken, *road.queued()] == ids


def test_stored_waits_for_the_spool_and_the_worker(
    road: Road, spool: Path, settings: Settings, log: Path
) -> None:
    with (
        redis.Redis.from_url(settings.redis_url or "") as client,
        Producer(road.url, spool=spool, timeout_seconds=60) as producer,
    ):
        road.close()
        say(producer, "a")
        with running_worker(settings, client, log):
            road.open()
            receipt = producer.append("s", ChatMessage.user("b"), ack="stored")
            assert (receipt.affected, receipt.spooled) == (1, False)
            assert [message.content for message in producer.load("s")] == ["a", "b"]


def test_what_cannot_be_confirmed_in_time_says_so_and_goes_all_the_same(
    road: Road, spool: Path
) -> None:
    with Producer(road.url, spool=spool, timeout_seconds=0.2) as producer:
        road.close()
        ids = say(producer, "a")
        for ack in ("stored", "fsynced"):
            with pytest.raises(NotConfirmedError, match="wait in the spool") as caught:
                producer.append("s", ChatMessage.user("b"), ack=ack)
            ids.append(caught.value.operation.op_id)
        with pytest.raises(ServerUnavailableError, match="3 earlier operations"):
            producer.load("s")
        road.open()
        wait_until_sent(producer)
    assert road.queued() == ids


def test_an_asynchronous_producer_spools_as_well(road: Road, spool: Path) -> None:
    async def adapter() -> list[str]:
        async with AsyncProducer(road.url, spool=spool, timeout_seconds=0.2) as producer:
            first = await producer.append("s", ChatMessage.user("a"))
            road.close()
            receipts = await asyncio.gather(
                *(producer.append("s", ChatMessage.user(str(number))) for number in range(700))
            )
            assert all(receipt.spooled for receipt in receipts)
            assert producer.spooled == 700
            with pytest.raises(NotConfirmedError) as caught:
                await producer.append("s", ChatMessage.user("b"), ack="stored")
            with pytest.raises(ServerUnavailableError, match="still in the spool"):
                await producer.load("s")
            road.open()
            await asyncio.to_thread(wait_until_sent, producer)
            last = await producer.append("s", ChatMessage.user("c"), ack="queued")
            assert not last.spooled
            ids = [receipt.op_id for receipt in (first, *receipts, last)]
            return [*ids[:-1], caught.value.operation.op_id, ids[-1]]

    assert asyncio.run(adapter()) == road.queued()


def test_bad_input_is_refused_before_it_is_spooled(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        with pytest.raises(InvalidInputError):
            producer.append("", ChatMessage.user("x"))
        assert producer.spooled == 0


def test_a_spool_belongs_to_one_producer(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool):
        with pytest.raises(SpoolUnusableError, match=f"in use by process {os.getpid()}"):
            Producer(road.url, spool=spool)
        with pytest.raises(SpoolUnusableError, match="in use"):
            AsyncProducer(road.url, spool=spool)
    Producer(road.url, spool=spool).close()


def test_a_forked_process_may_not_use_its_parents(road: Road, spool: Path) -> None:
    program = """
        import os, sys
        from backscroll import ChatMessage, Producer
        producer = Producer(sys.argv[1], spool=sys.argv[2])
        if os.fork() == 0:
            try:
                producer.append("s", ChatMessage.user("x"))
            except Exception as error:
                print(type(error).__name__, error, flush=True)
            os._exit(0)
        os.wait()
    """
    road.close()
    assert "create the producer after the fork" in run(program, road.url, spool).stdout


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_spool_is_an_error_that_names_it(road: Road, spool: Path, content: bytes) -> None:
    spool.write_bytes(content)
    with pytest.raises(SpoolUnusableError, match=r"spool\.db"):
        Producer(road.url, spool=spool)
    assert spool.read_bytes() == content


def test_a_spool_of_a_newer_version_is_left_alone(road: Road, spool: Path) -> None:
    with closing(sqlite3.connect(spool)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolUnusableError, match="newer Backscroll"):
        Producer(road.url, spool=spool)


def test_a_path_that_cannot_be_is_an_error(road: Road, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "spool.db", tmp_path):
        with pytest.raises(SpoolUnusableError, match=str(path)):
            Producer(road.url, spool=path)


FULL_DISK = """
    import resource, signal, sys
    from backscroll import ChatMessage, Producer
    producer = Producer(sys.argv[1], spool=sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    while True:
        try:
            print(producer.append("s", ChatMessage.user("x" * 5_000)).op_id, flush=True)
        except Exception as error:
            print(type(error).__name__, error)
            break
"""


def test_a_full_disk_is_an_error_and_loses_nothing_that_was_kept(road: Road, spool: Path) -> None:
    road.close()
    *ids, error = run(FULL_DISK, road.url, spool).stdout.splitlines()
    assert error.startswith(f"SpoolDiskError {spool}")
    assert len(ids) > 5
    road.open()
    with Producer(road.url, spool=spool) as producer:
        wait_until_sent(producer)
    assert road.queued() == ids


def test_only_its_owner_may_read_a_spool_and_nothing_stays_in_it(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        say(producer, "very secret words")
        assert b"very secret words" in spool.read_bytes()
        for file in spool.parent.glob("spool.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        road.open()
        wait_until_sent(producer)
        for file in spool.parent.glob("spool.db*"):
            assert b"very secret words" not in file.read_bytes()
