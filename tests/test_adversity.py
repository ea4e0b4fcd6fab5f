"""Acknowledgements, locks, clocks, files and servers that are not as they seem."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    InvalidInputError,
    NotConfirmedError,
    Producer,
    StoreUnavailableError,
)
from backscroll_worker.contract.pacing import finish
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store
from backscroll_worker.testing.stores import open_tested
from tests.processes import burst, contents, running_worker, spawn, stop, wait_for
from tests.proxy import LossyProxy

HI = ChatMessage.user("hi")
HOUR = 3_600_000_000


@pytest.fixture
def never_synced(server_url: str, client: redis.Redis) -> Iterator[str]:
    """A server whose append-only file is never synced to disk."""
    client.config_set("appendfsync", "no")
    try:
        yield server_url
    finally:
        client.config_set("appendfsync", "everysec")


def test_fsynced_does_not_lie_after_a_lost_reply(never_synced: str) -> None:
    with (
        LossyProxy(never_synced.removeprefix("unix://")) as proxy,
        Producer(proxy.url, timeout_seconds=1) as producer,
    ):
        producer.append("k", HI)
        proxy.lose_replies(b"EVALSHA")
        with pytest.raises(NotConfirmedError):
            producer.append("k", HI, ack="fsynced")


def test_fsynced_does_not_lie_about_a_job_that_is_known(never_synced: str) -> None:
    with Producer(never_synced) as one, Producer(never_synced, timeout_seconds=1) as other:
        one.append("k", HI, dedup_key="1")
        with pytest.raises(NotConfirmedError):
            other.append("k", HI, dedup_key="1", ack="fsynced")


def test_two_links_to_one_store_lead_to_one_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for scheme, name in (("sqlite", "b.db"), ("jsonl", "")):
        with (
            open_store(f"{scheme}://{tmp_path}/real/{name}"),
            pytest.raises(StoreUnavailableError, match="one writer"),
        ):
            open_store(f"{scheme}://{tmp_path}/link/{name}")


def test_the_lock_of_a_jsonl_store_lies_in_its_directory(tmp_path: Path) -> None:
    with open_store(f"jsonl://{tmp_path}/data"):
        assert (tmp_path / "data" / ".lock").exists()


def test_a_store_that_is_moved_away_is_not_written_to(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    path = Path(settings.store.removeprefix("sqlite://"))
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        path.rename(path.with_name("elsewhere.db"))
        producer.append("k", ChatMessage.user("b"))
        wait_for(lambda: "was moved" in log.read_text(), "the worker to notice")
        stop(process)
    path.with_name("elsewhere.db").rename(path)
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["a", "b"]


def test_a_clock_that_was_set_back_makes_no_session_idle(tmp_path: Path) -> None:
    clock = [1_000 * HOUR]
    with open_tested(f"sqlite://{tmp_path}/b.db", clock=lambda: clock[0]) as store:
        store.append("k", HI)
        clock[0] = 0
        store.append("k", HI)
        store.append("new", HI)
        clock[0] = 1_000 * HOUR + 60_000_000
        assert finish(store.cleanup(720)).sessions == 0
        assert len(store.load("k")) == 2
    clock[0] = 0
    with open_tested(f"sqlite://{tmp_path}/b.db", clock=lambda: clock[0]) as store:
        store.append("newer", HI)
        clock[0] = 1_001 * HOUR
        assert finish(store.cleanup(720)).sessions == 0


def test_compaction_ends_on_a_file_without_auto_vacuum(tmp_path: Path) -> None:
    import apsw  # noqa: PLC0415

    path = tmp_path / "b.db"
    with open_tested(f"sqlite://{path}") as store:
        for number in range(300):
            store.append("k", ChatMessage.user("word " * 200 + str(number)))
        store.clear("k")
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=delete; PRAGMA auto_vacuum=0; VACUUM").fetchall()
    assert connection.pragma("auto_vacuum") == 0
    connection.close()
    with open_tested(f"sqlite://{path}") as store:
        for number in range(100):
            store.append("k", ChatMessage.user("word " * 200 + str(number)))
        store.clear("k")
        assert finish(store.compact(0)).seconds < 60


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_a_time_the_worker_would_refuse_is_refused_at_once(server_url: str, year: int) -> None:
    moment = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    message = ChatMessage("user", "x", created_at=moment)
    with Producer(server_url) as producer:
        if year == 9999:
            producer.append("k", message)
        else:
            with pytest.raises(InvalidInputError, match="created_at"):
                producer.append("k", message)


@pytest.mark.parametrize("depth", [100, 240, 250, 254, 255, 2000])
def test_extra_of_any_depth_is_taken_whole_or_refused(
    settings: Settings, producer: Producer, log: Path, depth: int
) -> None:
    extra: object = "deep"
    for _ in range(depth):
        extra = [extra]
    message = ChatMessage.user("x", deep=extra)
    if depth > 245:
        with pytest.raises(InvalidInputError, match="extra"):
            producer.append("k", message)
        return
    producer.append("k", message)
    worker = spawn(settings, "worker", log=log)
    try:
        (stored,) = producer.load("k")
    finally:
        worker.kill()
        worker.wait()
    assert stored.extra == {"deep": extra}


def test_a_search_with_hundreds_of_exclusions_is_answered(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
        store.append("k", HI)
        query = "hi " + " ".join(f"-w{number}" for number in range(150))
        assert len(store.search(query)) == 1
        assert not store.search(" ".join(f"w{number}" for number in range(200)))


def test_an_answer_too_large_to_travel_is_declined_and_nobody_else_waits(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    for _ in range(40):
        producer.append("k", ChatMessage.user("x" * 1_000_000))
    with running_worker(settings, client, log) as process:
        with pytest.raises(Exception, match="ask for less with limit="):
            producer.load("k")
        assert len(producer.load("k", limit=5)) == 5
        assert stop(process) == 0


def test_giving_up_on_close_leaves_no_caller_waiting_for_ever(
    server_url: str, client: redis.Redis
) -> None:
    pid = int(client.info("server")["process_id"])

    async def use() -> object:
        producer = AsyncProducer(server_url, retries=0)
        await producer.append("k", HI)
        os.kill(pid, signal.SIGSTOP)
        try:
            call = asyncio.create_task(producer.append("k", HI))
            await asyncio.sleep(0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(producer.close(), 0.3)
        finally:
            os.kill(pid, signal.SIGCONT)
        receipt = await asyncio.wait_for(call, 60)
        await producer.close()
        return receipt

    assert asyncio.run(use()) is not None


def test_a_worker_outlives_a_server_that_was_frozen(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    pid = int(client.info("server")["process_id"])
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        os.kill(pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + 25
            while "the server fails" not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert producer.append("k", ChatMessage.user("b"), ack="stored").affected == 1
        assert process.poll() is None
        assert stop(process) == 0
    assert contents(settings, "k") == ["a", "b"]
