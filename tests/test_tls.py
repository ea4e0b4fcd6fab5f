"""rediss:// through every part, with certificates made here; and what is said of wrong ones."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import redis
import trustme

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll.contract.errors import ServerUnavailableError
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import done, run
from tests.dashboards import ask, dashboard
from tests.processes import running_worker, spawn, stop, wait_for
from tests.proxy import TlsProxy

HI: Final = ChatMessage.user("hi")
OUR_CA: Final = trustme.CA()


class Tls:
    """The test's server behind TLS; URLs to it."""

    def __init__(self, server_url: str, directory: Path) -> None:
        self._target = server_url.removeprefix("unix://")
        self._directory = directory
        self._proxies = ExitStack()

    def close(self) -> None:
        self._proxies.close()

    def url(self, *names: str, ca: trustme.CA = OUR_CA, host: str = "localhost") -> str:
        """Of a server whose certificate has `names`, for a client that trusts `ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        OUR_CA.issue_cert(*(names or (host,))).configure_cert(context)
        return f"rediss://me:hushhush@{host}:{self._port(context)}/0?ssl_ca_certs={self.pem(ca)}"

    def url_for_known_clients(self) -> str:
        """Of a server that asks its clients for a certificate of `OUR_CA`; without one yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        OUR_CA.configure_trust(context)
        OUR_CA.issue_cert("localhost").configure_cert(context)
        ca = self.pem(OUR_CA)
        return f"rediss://me:hushhush@localhost:{self._port(context)}/0?ssl_ca_certs={ca}"

    def pem(self, ca: trustme.CA) -> Path:
        path = self._directory / f"{id(ca)}.pem"
        ca.cert_pem.write_to_path(str(path))
        return path

    def _port(self, context: ssl.SSLContext) -> int:
        return self._proxies.enter_context(TlsProxy(self._target, context)).port


@pytest.fixture
def tls(server_url: str, client: redis.Redis, tmp_path: Path) -> Iterator[Tls]:
    client.acl_setuser(
        "me",
        enabled=True,
        passwords=["+hushhush"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
    )
    served = Tls(server_url, tmp_path)
    try:
        yield served
    finally:
        served.close()
        client.acl_deluser("me")


def test_every_part_works_over_tls(
    tls: Tls, settings: Settings, client: redis.Redis, log: Path
) -> None:
    url = tls.url()
    encrypted = replace(settings, redis_url=url)
    scheduler = spawn(encrypted, "scheduler", log=log)
    try:
        with running_worker(encrypted, client, log) as worker:
            with Producer(url, timeout_seconds=60) as producer:
                for ack in ("queued", "fsynced", "stored"):
                    producer.append("k", HI, ack=ack)
                # More than one TLS record, both ways.
                producer.append("large", ChatMessage.user("x" * 500_000))
                assert len(producer.load("large")[0].content) == 500_000
                assert len(producer.search("hi")) == 3

            async def use() -> int:
                async with AsyncProducer(url, timeout_seconds=60) as producer:
                    await asyncio.gather(*(producer.append("k", HI) for _ in range(20)))
                    await producer.append("k", HI, ack="fsynced")
                    await producer.append("k", HI, ack="stored")
                    return len(await producer.load("k"))

            assert asyncio.run(use()) == 25
            wait_for(lambda: client.zcard("rq:cron_schedulers"), "the scheduler")
            checked = done(encrypted, "check")
            assert "✗" not in checked
            assert "rediss://me:***@localhost" in checked
            done(encrypted, "stats")
            with dashboard(url) as address:
                assert ask(address, "/0/data/workers.json")[0] == 200
            assert stop(worker) == 0
        assert stop(scheduler) == 0
    finally:
        scheduler.kill()
        scheduler.wait()
    assert "hushhush" not in log.read_text()


def test_a_client_certificate_is_shown_where_the_url_names_one(tls: Tls, tmp_path: Path) -> None:
    url = tls.url_for_known_clients()
    with pytest.raises(ServerUnavailableError) as caught:
        append(url)
    assert "hushhush" not in str(caught.value)
    own = OUR_CA.issue_cert("adapter")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    append(f"{url}&ssl_certfile={tmp_path}/own.pem&ssl_keyfile={tmp_path}/own.pem")


def append(url: str) -> None:
    with Producer(url, retries=0) as producer:
        producer.append("k", HI)


def append_async(url: str) -> None:
    async def use() -> None:
        async with AsyncProducer(url, retries=0) as producer:
            await producer.append("k", HI)

    asyncio.run(use())


def wrong_urls(tls: Tls, tmp_path: Path) -> dict[str, str]:
    """URLs that cannot work, each with what the error must say."""
    trusted = "Name the CA that signed the server's certificate with ?ssl_ca_certs="
    unreadable = "Are the files that the URL names readable"
    right = tls.url()
    (tmp_path / "empty.pem").touch()
    return {
        tls.url(ca=trustme.CA()): trusted,
        right.partition("?")[0]: trusted,
        tls.url("queue.example.com", host="localhost"): "and the host as the certificate has it",
        f"{right.partition('=')[0]}=/nowhere/ca.pem": unreadable,
        f"{right.partition('=')[0]}={tmp_path}/empty.pem": unreadable,
    }


def test_a_certificate_that_is_not_trusted_is_said_with_the_remedy(
    tls: Tls, tmp_path: Path
) -> None:
    for url, remedy in wrong_urls(tls, tmp_path).items():
        for call in (append, append_async):
            with pytest.raises(ServerUnavailableError) as caught:
                call(url)
            said = str(caught.value)
            assert said.startswith("no answer from rediss://me:***@localhost:"), said
            assert remedy in said, said
            assert "hushhush" not in said
            assert caught.value.operation is not None


def test_commands_say_it_too(tls: Tls, settings: Settings, log: Path) -> None:
    untrusted = replace(settings, redis_url=tls.url(ca=trustme.CA()))
    checked = run(untrusted, "check")
    assert checked.exit_code == ExitCode.FAILED
    assert "Name the CA that signed" in " ".join(checked.stdout.split())
    worker = spawn(untrusted, "worker", log=log)
    assert worker.wait(timeout=60) == ExitCode.SERVER
    scheduler = spawn(untrusted, "scheduler", log=log)
    wait_for(lambda: log.read_text().count("Name the CA that signed") == 2, "both complaints")
    assert stop(scheduler) == 0
    for said in (checked.output, log.read_text()):
        assert "hushhush" not in said
        assert "Traceback" not in said


def test_a_server_that_is_not_there_may_be_one_without_tls() -> None:
    with pytest.raises(
        ServerUnavailableError, match=r"with TLS on that port\? redis:// is without TLS"
    ):
        append("rediss://me:hushhush@127.0.0.1:1/0")
