"""Producers on the store's host: they read its files, and their own writes first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from backscroll import (
    ChatMessage,
    NotConfirmedError,
    StoreUnavailableError,
    StoreUnusableError,
    connect,
    connect_async,
)
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store
from backscroll_worker.testing.fixtures import url_at
from tests.processes import running_worker, wait_for, workers
from tests.test_cancelled import CancelledAt, coroutine

__all__ = ["url_at"]

HI = ChatMessage.user("hi")


@pytest.fixture
def settings(settings: Settings, url_at: object, tmp_path: Path) -> Settings:
    assert callable(url_at)
    return settings.with_options(store=url_at(tmp_path / "store"))


def test_a_read_sees_own_writes_and_needs_no_worker(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with connect(settings.redis_url, local_reads=True, timeout_seconds=20) as history:
        with running_worker(settings, client, log):
            for count in range(1, 30):
                history.append("s", ChatMessage.user(str(count)))
                assert history.load("s", 1)[0].content == str(count)
            for _ in range(3):
                history.append("s", HI)
            with history.turn("s", ChatMessage.user("what?")) as turn:
                turn.reply("this")
            history.append("t", HI)
            assert [info.key for info in history.sessions().sessions] == ["t", "s"]
            assert history.compact().seconds > 0
            assert client.llen("rq:queue:backscroll") == 0
        before = client.info("stats")["total_commands_processed"]
        assert [message.content for message in history.load("s", 2)] == ["what?", "this"]
        assert client.info("stats")["total_commands_processed"] - before <= 3


def test_many_tasks_read_what_each_has_written(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    async def take_part(key: str) -> None:
        for count in range(1, 15):
            await history.append(key, HI)
            assert len(await history.load(key)) == count

    async def main() -> None:
        await asyncio.gather(*(take_part(f"s{number}") for number in range(10)))
        await history.close()

    with running_worker(settings, client, log):
        history = connect_async(settings.redis_url, local_reads=settings.store)
        asyncio.run(main())


def test_it_reads_no_store_but_its_queues(
    settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    open_store(f"sqlite://{tmp_path}/other.db").close()
    other = connect(settings.redis_url, local_reads=f"sqlite://{tmp_path}/other.db")
    absent = connect(settings.redis_url, local_reads=f"sqlite://{tmp_path}/absent.db")
    with running_worker(settings, client, log), other, absent:
        wait_for(lambda: workers(client), "the worker")
        with pytest.raises(StoreUnusableError, match="is another store"):
            other.load("s")
        with pytest.raises((StoreUnavailableError, StoreUnusableError), match="store's host"):
            absent.load("s")


def test_a_read_waits_for_own_writes_as_long_as_it_may(settings: Settings) -> None:
    open_store(settings.store).close()
    url = settings.redis_url
    with connect(url, local_reads=settings.store, timeout_seconds=0.1) as history:
        assert history.load("s") == []
        written = history.append("s", HI)
        with pytest.raises(NotConfirmedError) as error:
            history.load("s")
    assert error.value.operation.op_id == written.op_id


def test_a_read_waits_for_an_own_write_whose_call_was_cancelled(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    async def use() -> None:
        async with connect_async(
            settings.redis_url, local_reads=True, timeout_seconds=1
        ) as history:
            with running_worker(settings, client, log):
                await history.append("s", HI)
                assert len(await history.load("s")) == 1
            call = history.append("s", HI)
            with pytest.raises(asyncio.CancelledError):
                await CancelledAt(coroutine(call), 0, is_late=True)
            with pytest.raises(NotConfirmedError):
                await history.load("s")
            with running_worker(settings, client, log):
                assert len(await history.load("s")) == 2

    asyncio.run(use())
