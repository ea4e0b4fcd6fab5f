"""The worker and a server that is unreachable, demoted, or there and refusing."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.crash.server import CrashableServer
from tests.processes import contents, depth, running_worker, spawn, stop, wait_for, workers
from tests.proxy import Proxy

HI = ChatMessage.user("hi")
NOBODY = 1  # a port at which nobody listens


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CrashableServer]:
    with CrashableServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def own(server: CrashableServer, tmp_path: Path) -> Settings:
    """Settings for the test's own server."""
    return Settings(redis_url=server.url, data_dir=tmp_path, store=f"sqlite://{tmp_path / 'b.db'}")


def failures(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "the server" in line]


class Name(Proxy):
    """A name that leads to one server, and later to another; nobody's connection is closed."""

    def lead_to(self, server: CrashableServer) -> None:
        self._target = str(server.socket)


def test_a_demoted_primary_behind_one_name_is_left_for_the_new_one(
    server: CrashableServer, own: Settings, tmp_path: Path, log: Path
) -> None:
    with (
        CrashableServer(tmp_path / "other") as other,
        Name(str(server.socket)) as name,
        server.client() as old,
        other.client() as new,
    ):
        settings = own.with_options(redis_url=name.url)
        with running_worker(settings, old, log) as process:
            with Producer(server.url) as producer:
                producer.append("k", ChatMessage.user("a"), ack="stored")
            name.lead_to(other)
            old.replicaof("127.0.0.1", NOBODY)
            with Producer(other.url) as producer:
                receipt = producer.append("k", ChatMessage.user("b"), ack="stored")
                assert receipt.affected == 1
            wait_for(lambda: workers(new), "the worker to register")
            # The server hangs up on who waits for a job just then, and refuses who asks later.
            reasons = ("it is a replica", "Connection closed by server")
            assert any(reason in line for line in failures(log) for reason in reasons)
            assert stop(process) == 0
    assert contents(own, "k") == ["a", "b"]


def refuse_by_memory(client: redis.Redis) -> Callable[[], Any]:
    client.config_set("maxmemory", "1")
    return lambda: client.config_set("maxmemory", "0")


def refuse_by_replicas(client: redis.Redis) -> Callable[[], Any]:
    client.config_set("min-replicas-to-write", "1")
    return lambda: client.config_set("min-replicas-to-write", "0")


def refuse_as_a_replica(client: redis.Redis) -> Callable[[], Any]:
    client.replicaof("127.0.0.1", NOBODY)
    return lambda: client.replicaof("NO", "ONE")


def refuse_stale_data(client: redis.Redis) -> Callable[[], Any]:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", NOBODY)
    return lambda: client.replicaof("NO", "ONE")


def refuse_by_permission(client: redis.Redis) -> Callable[[], Any]:
    commands = ["-evalsha", "-eval", "-multi", "-xadd"]
    client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=commands)
    return lambda: client.acl_setuser(
        "default", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"]
    )


REFUSALS = {
    "OOM": refuse_by_memory,
    "NOREPLICAS": refuse_by_replicas,
    "READONLY": refuse_as_a_replica,
    "MASTERDOWN": refuse_stale_data,
    "NOPERM": refuse_by_permission,
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_server_that_refuses_for_a_while_costs_no_job_and_few_log_lines(
    kind: str, server: CrashableServer, own: Settings, log: Path
) -> None:
    with (
        server.client() as client,
        Producer(own.redis_url) as producer,
        running_worker(own, client, log, BACKSCROLL_GROUP_SIZE="5") as process,
    ):
        producer.append("k", ChatMessage.user("0"), ack="stored")
        for number in range(1, 30):
            producer.append("k", ChatMessage.user(str(number)))
        allow = REFUSALS[kind](client)
        wait_for(lambda: "the server fails" in log.read_text(), "the worker to notice")
        time.sleep(2.5)
        said = len(failures(log))
        allow()
        wait_for(lambda: depth(client) == 0, "the jobs")
        assert said <= 3
        producer.append("k", ChatMessage.user("30"), ack="stored")
        wait_for(lambda: "works again" in failures(log)[-1], "the worker to say so")
        assert client.zcard("rq:failed:backscroll") == 0
        assert stop(process) == 0
    assert contents(own, "k") == [str(number) for number in range(31)]


def test_while_the_server_is_unreachable_the_worker_logs_it_once(
    server: CrashableServer, own: Settings, log: Path
) -> None:
    with server.client() as client, running_worker(own, client, log) as process:
        server.kill()
        wait_for(lambda: failures(log), "the worker to notice")
        time.sleep(4)
        assert len(failures(log)) <= 3
        server.start()
        with Producer(own.redis_url) as producer:
            producer.append("k", HI, ack="stored")
        wait_for(lambda: "works again" in failures(log)[-1], "the worker to say so")
        wait_for(lambda: client.pubsub_channels("rq:pubsub:*"), "the thread for RQ's commands")
        assert stop(process) == 0
    assert not re.search("Traceback|pubsub thread|could not connect", log.read_text())


@pytest.mark.parametrize("kind", ["unreachable", *sorted(REFUSALS.keys() - {"NOPERM"})])
def test_a_worker_that_starts_while_the_server_fails_waits_for_it(
    kind: str, server: CrashableServer, own: Settings, log: Path
) -> None:
    with server.client() as client:
        allow: Callable[[], Any] = server.start
        if kind == "unreachable":
            server.kill()
        else:
            allow = REFUSALS[kind](client)
        process = spawn(own, "worker", log=log)
        try:
            wait_for(lambda: failures(log) or process.poll() is not None, "the worker to notice")
            assert process.poll() is None, log.read_text()
            assert "the start waits for it" in log.read_text()
            allow()
            with Producer(own.redis_url) as producer:
                assert producer.append("k", HI, ack="stored").affected == 1
            assert stop(process) == 0
        finally:
            process.kill()
            process.wait()


def test_a_worker_that_waits_for_its_server_can_be_stopped(own: Settings, log: Path) -> None:
    settings = own.with_options(redis_url=f"redis://127.0.0.1:{NOBODY}/0")
    process = spawn(settings, "worker", log=log)
    wait_for(lambda: failures(log), "the worker to wait")
    process.terminate()
    assert process.wait(60) in (0, -15)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("url", ["redis://no-such-host.invalid/0", "unix://:wrong@{socket}"])
def test_a_wrong_address_or_password_is_refused_at_the_start(
    url: str, server: CrashableServer, own: Settings, log: Path
) -> None:
    with server.client() as client, suppress(redis.AuthenticationError):
        client.config_set("requirepass", "right")
        settings = own.with_options(redis_url=url.format(socket=server.socket))
        process = spawn(settings, "worker", log=log)
        assert process.wait(60) == ExitCode.SERVER
        errors = [line for line in log.read_text().splitlines() if line.startswith("backscroll")]
        assert len(errors) == 1
        assert "Traceback" not in log.read_text()


def test_a_burst_does_not_wait_for_the_server(own: Settings, log: Path) -> None:
    settings = own.with_options(redis_url=f"redis://127.0.0.1:{NOBODY}/0")
    assert spawn(settings, "worker", "--burst", log=log).wait(60) == ExitCode.SERVER


def test_a_killed_worker_is_gone_from_the_list_with_the_next_one(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as first:
        (dead,) = workers(client)
        assert 0 < int(client.ttl(dead.decode())) <= 30
        first.kill()
        first.wait()
        with running_worker(settings, client, log):
            wait_for(
                lambda: dead not in workers(client) and not client.exists(dead.decode()),
                "the killed one to be forgotten",
            )


def test_the_worker_of_another_host_or_store_stays_in_the_list(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    for name, host, store in (("a", "elsewhere", settings.store), ("b", socket.gethostname(), "s")):
        client.hset(f"rq:worker:{name}", mapping={"hostname": host, "store": store})
        client.sadd("rq:workers:backscroll", f"rq:worker:{name}")
    with running_worker(settings, client, log):
        assert {b"rq:worker:a", b"rq:worker:b"} < workers(client)
