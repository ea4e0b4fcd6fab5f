"""Answers too large for the server, for the worker's memory, or too many at once."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.suspension import resume, suspend

from backscroll import ChatMessage, OperationRefusedError, Producer
from backscroll.contract.ids import new_op_id
from backscroll.contract.reads import Load
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import apply_all, open_tested, requests
from tests.processes import burst, depth, running_worker, stop, wait_for, workers
from tests.test_bad_jobs import push

MIB = 1 << 20
HI = ChatMessage.user("hi")


@pytest.fixture
def configure(client: redis.Redis) -> Iterator[Callable[[str, str], None]]:
    """Sets one of the server's limits for the test."""
    before: dict[str, str] = {}

    def configure(name: str, value: str) -> None:
        before[name] = str(client.config_get(name)[name])
        client.config_set(name, value)

    yield configure
    for name, value in before.items():
        client.config_set(name, value)


@pytest.fixture(params=["sqlite", "jsonl"])
def store(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Settings for each kind of store."""
    if request.param == "sqlite":
        return settings
    return settings.with_options(store=f"jsonl://{tmp_path / 'sessions'}")


def fill(settings: Settings, messages: int, size: int, key: str = "k") -> None:
    """Store that many messages of that many characters."""
    said = ChatMessage.user("word " + "x" * (size - 5))
    with open_tested(settings.store) as backend:
        apply_all(backend, [requests.append(key, (said,), None) for _ in range(messages)])


@contextmanager
def suspended(client: redis.Redis) -> Iterator[None]:
    """Meanwhile no worker takes a job."""
    suspend(client)
    for key in workers(client):
        wait_for(partial(is_suspended, client, key.decode()), "the suspension")
    yield
    resume(client)


def is_suspended(client: redis.Redis, worker: str) -> bool:
    return client.hget(worker, "state") == b"suspended"


def ask_at_once(
    client: redis.Redis, url: str | None, count: int, call: Callable[[Producer], Any]
) -> list[Any]:
    """What many callers get whose calls all wait when the worker comes to see them."""
    with Producer(url) as producer, ThreadPoolExecutor(count) as threads:
        with suspended(client):
            calls = [threads.submit(call, producer) for _ in range(count)]
            wait_for(lambda: depth(client) == count, "the calls")
        return [each.result(timeout=60) for each in calls]


def test_a_result_the_server_refuses_fails_alone_and_delays_no_other(
    store: Settings,
    producer: Producer,
    client: redis.Redis,
    log: Path,
    configure: Callable[[str, str], None],
) -> None:
    long = "x" * 500
    fill(store, 20, 60_000)
    with open_tested(store.store) as backend:
        said = ChatMessage.user("word " + "x" * 60_000)
        apply_all(backend, [requests.append(f"s{number}", (said,), None) for number in range(20)])
        given = {"name": long, "room": long, "sender": long, "agent": long}
        apply_all(backend, [requests.describe(f"d{number}", given) for number in range(600)])
    configure("proto-max-bulk-len", str(MIB))
    reads: list[Callable[[], Any]] = [
        lambda: producer.load("k"),
        lambda: producer.load("k", include_edits=True),
        lambda: producer.search("word", limit=1000),
        lambda: producer.search("word", by_session=True, limit=1000),
        lambda: producer.sessions(limit=1000),
    ]
    with running_worker(store, client, log) as process:
        for read in reads:
            with pytest.raises(OperationRefusedError, match="server does not accept"):
                read()
            assert producer.append("k", HI, ack="stored").affected == 1
        assert producer.load("k", limit=1)[0].content == "hi"
        assert client.zcard("rq:failed:backscroll") == 0
        assert log.read_text().count("the server fails") == 0
        assert stop(process) == 0


def test_many_answers_at_once_are_not_one_transaction(
    store: Settings, client: redis.Redis, log: Path, configure: Callable[[str, str], None]
) -> None:
    fill(store, 10, 60_000)
    configure("client-query-buffer-limit", str(2 * MIB))
    with running_worker(store, client, log) as process:
        answers = ask_at_once(client, store.redis_url, 60, lambda one: len(one.load("k")))
        assert answers == [10] * 60
        assert "the server fails" not in log.read_text()
        assert stop(process) == 0


def test_a_result_that_cannot_be_written_holds_up_no_other(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    ids = [producer.append("k", HI).op_id for _ in range(1_000)]
    for op_id in ids:
        client.hset(f"rq:job:{op_id}", "result_ttl", 60)  # as if somebody waited for each
    client.set(f"rq:results:{ids[0]}", "not a stream")
    assert burst(settings, log) == 0
    assert client.xlen(f"rq:results:{ids[1]}") == 1
    assert log.read_text().count("refused part") == 1
    assert "the server fails" not in log.read_text()


def test_failures_by_the_thousand_are_not_one_transaction(
    settings: Settings,
    producer: Producer,
    client: redis.Redis,
    log: Path,
    configure: Callable[[str, str], None],
) -> None:
    for _ in range(1900):
        push(
            client,
            [
                "backscroll_worker.jobs.append",
                None,
                [],
                {"key": "k" * 600, "at": 1, "messages": []},
            ],
        )
    producer.append("k", HI)
    configure("client-query-buffer-limit", str(MIB))
    assert burst(settings, log) == 0
    assert client.zcard("rq:failed:backscroll") == 1900
    assert "the server fails" not in log.read_text()


def test_a_group_of_many_large_answers_needs_the_memory_of_few(
    store: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    fill(store, 5, MIB)
    with running_worker(store, client, log) as process:
        assert len(producer.load("k")) == 5
        status = Path(f"/proc/{process.pid}/status").read_text()
        size_bytes = 1024 * int(status.split("VmSize:")[1].split()[0])
        with suspended(client):
            for _ in range(40):
                operation = Load(new_op_id(), 1, "k")
                push(client, ["backscroll_worker.jobs.load", None, [], operation.arguments()])
            producer.append("k", HI)
            limit = size_bytes + 120 * MIB
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        wait_for(lambda: depth(client) == 0 or process.poll() is not None, "the answers")
        assert stop(process) == 0
    assert "MemoryError" not in log.read_text()
    assert client.zcard("rq:failed:backscroll") == 0


def test_an_answer_refused_for_its_size_is_not_read_to_its_end(tmp_path: Path) -> None:
    from backscroll_worker.contract.answer_budget import MAX_ANSWER_BYTES, AnswerBudget, history  # noqa: PLC0415

    read = 0

    def messages() -> Iterator[ChatMessage]:
        nonlocal read
        while True:
            read += 1
            yield ChatMessage.user("x" * MIB)

    with pytest.raises(OperationRefusedError, match="ask for less with limit="):
        history(messages(), AnswerBudget())
    assert read == MAX_ANSWER_BYTES // MIB


def test_nothing_of_a_group_waits_for_pythons_collector(store: Settings) -> None:
    """It comes seldom to a worker, and what a refused answer has read is large."""
    from backscroll_worker.contract.answer_budget import AnswerBudget  # noqa: PLC0415

    fill(store, 34, MIB)
    hi = ChatMessage.user("hi", platform_id="1")
    with open_tested(store.store) as backend:
        operations = [
            requests.append("new", (hi,), None),
            requests.append("new", (hi, replace(hi, platform_id="2")), None),
            requests.append("new", (hi,), None, expect_tail="another"),
            requests.replace("new", hi, platform_id="3"),
            requests.fork("missing", "copy"),
            requests.clear("new"),
            Load(new_op_id(), 1, "k"),
        ]
        backend.apply(operations, budget=AnswerBudget())
        gc.collect()
        gc.disable()
        try:
            again = [replace(each, op_id=new_op_id()) for each in operations]
            refusals = backend.apply(again, budget=AnswerBudget())
            assert isinstance(refusals[-1], OperationRefusedError)
            del refusals, again
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_a_page_of_large_hits_ends_early_and_its_cursor_leads_on(store: Settings) -> None:
    with open_tested(store.store) as backend:
        for number in range(40):
            backend.append("k", ChatMessage.user(f"word {number} " + "é" * (MIB // 4)))
        found: list[str] = []
        cursor = None
        pages = 0
        while pages == 0 or cursor is not None:
            page = backend.search("word", limit=1000, cursor=cursor)
            found += [hit.message.content.split()[1] for hit in page]
            cursor, pages = page.cursor, pages + 1
        assert sorted(found, key=int) == [str(number) for number in range(40)]
        assert 4 < pages < 10
