"""What comes late, after a session was deleted elsewhere, does not bring it back."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, Producer, ServerUnavailableError
from backscroll.contract.codec import encode
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Append
from backscroll.transport.rq_protocol import job_key, registry_key
from backscroll_worker.settings import Settings
from tests.cli.command import done
from tests.processes import running_worker, wait_for
from tests.proxy import Proxy


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_what_waited_in_a_spool_through_a_delete_is_dropped(
    settings: Settings, client: redis.Redis, tmp_path: Path, kind: str
) -> None:
    settings = replace(settings, store=f"{kind}://{tmp_path / 'store'}")
    road = tmp_path / "road"  # leads to the server's socket, once it is there
    cut_off = Producer(f"unix://{road}", spool=tmp_path / "spool.db")
    with (
        running_worker(settings, client, tmp_path / "log"),
        Producer(settings.redis_url) as connected,
        cut_off,
    ):
        assert cut_off.append("s", ChatMessage.user("before")).spooled
        assert connected.delete("s", ack="stored").affected == 0
        assert cut_off.append("s", ChatMessage.user("after")).spooled
        road.symlink_to(str(settings.redis_url).removeprefix("unix://"))
        wait_for(lambda: cut_off.spooled == 0, "the spool to be empty")
        assert [message.content for message in connected.load("s")] == ["after"]


class ShutProxy(Proxy):
    """Hangs up on everybody until it is opened."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.is_open = False
        self.refused = 0

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        if self.is_open:
            super().serve(client, server)
        self.refused += 1


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_sent_again_after_a_delete_does_not_undo_it(
    settings: Settings, client: redis.Redis, tmp_path: Path, is_async: bool
) -> None:
    async def append_there() -> None:
        async with AsyncProducer(proxy.url) as producer:
            await producer.append("s", ChatMessage.user("before"))

    def append() -> None:
        if is_async:
            asyncio.run(append_there())
            return
        with Producer(proxy.url) as producer:
            producer.append("s", ChatMessage.user("before"))

    target = str(settings.redis_url).removeprefix("unix://")
    with (
        running_worker(settings, client, tmp_path / "log"),
        Producer(settings.redis_url) as connected,
        ShutProxy(target) as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        appended = pool.submit(append)
        wait_for(lambda: proxy.refused > 0, "the first attempt")
        connected.delete("s", ack="stored")
        proxy.is_open = True
        appended.result(20)
        assert connected.session("s") is None
        connected.append("s", ChatMessage.user("after"))
        assert [message.content for message in connected.load("s")] == ["after"]


def test_an_operation_of_an_error_does_not_undo_a_later_delete(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    cut_off = Producer(f"unix://{tmp_path}/nobody", retries=0)
    with cut_off, pytest.raises(ServerUnavailableError) as caught:
        cut_off.append("s", ChatMessage.user("before"))
    with running_worker(settings, client, tmp_path / "log"), Producer(settings.redis_url) as other:
        other.delete("s", ack="stored")
        other.send(caught.value.operation, ack="stored")
        assert other.session("s") is None


def test_a_requeued_job_does_not_bring_back_what_was_deleted(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    early = Append(new_op_id(), 1_000, "s", (ChatMessage.user("early"),))
    spoiled = encode(early).replace(b"jobs.append", b"jobs.appendix")
    client.hset(job_key(early.op_id), mapping={"data": spoiled, "origin": "backscroll"})
    client.rpush("rq:queue:backscroll", early.op_id)
    with running_worker(settings, client, tmp_path / "log"), Producer(settings.redis_url) as other:
        wait_for(lambda: client.exists(registry_key("failed", "backscroll")), "the job to fail")
        client.hset(job_key(early.op_id), "data", encode(early))  # as if the worker was updated
        other.delete("s", ack="stored")
        done(settings, "failed", "requeue", "--all")
        assert other.session("s") is None
