"""What a producer promises before any worker is there: input, format, resending, limits."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job

from backscroll import (
    AuthenticationFailedError,
    BackscrollError,
    ChatMessage,
    InvalidInputError,
    InvalidSettingError,
    NotConfirmedError,
    Producer,
    QueueFullError,
    SearchFilter,
    ServerUnavailableError,
)
from backscroll.contract.codec import decode
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Append, Rollback
from backscroll.transport.rq_protocol import OrjsonSerializer
from tests.proxy import LossyProxy

HI = ChatMessage.user("hi")


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


BAD_CALLS: list[tuple[str, str, int | None, Any]] = [
    ("empty key", "key", None, lambda p: p.append("", HI)),
    ("over-long key", "key", 512, lambda p: p.append("k" * 513, HI)),
    ("newline in key", "key", None, lambda p: p.append("a\nb", HI)),
    ("NUL in key", "key", None, lambda p: p.append("a\0b", HI)),
    ("C1 control in key", "key", None, lambda p: p.append("a\x85b", HI)),
    ("lone surrogate in key", "key", None, lambda p: p.append("a\ud800", HI)),
    ("key that is no text", "key", None, lambda p: p.append(7, HI)),
    ("no message", "messages", None, lambda p: p.append("k")),
    ("not a message", "messages", None, lambda p: p.append("k", {"role": "user"})),
    ("empty role", "role", None, lambda p: p.append("k", ChatMessage("", "x"))),
    ("role too long", "role", 64, lambda p: p.append("k", ChatMessage("r" * 65, "x"))),
    ("content no text", "content", None, lambda p: p.append("k", ChatMessage("user", 1))),  # type: ignore[arg-type]
    ("lone surrogate", "content", None, lambda p: p.append("k", ChatMessage.user("x\udc00"))),
    ("huge", "content", 2**20, lambda p: p.append("k", ChatMessage.user("é" * (2**19 + 1)))),
    (
        "huge with extra",
        "content",
        2**20,
        lambda p: p.append("k", ChatMessage.user("", blob="x" * 2**20)),
    ),
    (
        "huge together",
        "messages",
        2**24,
        lambda p: p.append("k", *[ChatMessage.user("x" * 2**20)] * 17),
    ),
    ("extra a list", "extra", None, lambda p: p.append("k", ChatMessage("user", "x", [1]))),  # type: ignore[arg-type]
    ("extra NaN", "extra", None, lambda p: p.append("k", ChatMessage.user("x", n=math.nan))),
    ("extra tuple", "extra", None, lambda p: p.append("k", ChatMessage.user("x", t=(1, 2)))),
    ("extra object", "extra", None, lambda p: p.append("k", ChatMessage.user("x", o=object()))),
    (
        "extra time",
        "extra",
        None,
        lambda p: p.append("k", ChatMessage.user("x", t=datetime.now(UTC))),
    ),
    ("extra int key", "extra", None, lambda p: p.append("k", ChatMessage("user", "x", {1: 2}))),  # type: ignore[dict-item]
    (
        "naive time",
        "created_at",
        None,
        lambda p: p.append("k", ChatMessage("user", "x", created_at=datetime(2026, 1, 1))),
    ),
    ("bad ack", "ack", None, lambda p: p.append("k", HI, ack="maybe")),
    ("bad message id", "message_id", None, lambda p: p.rollback("k", "")),
    ("bad replacement", "role", None, lambda p: p.replace("k", ChatMessage("", "x"))),
    ("no attribute", "attributes", None, lambda p: p.describe("k")),
    ("bad state", "state", None, lambda p: p.describe("k", state="busy")),
    ("bad pin", "pinned", None, lambda p: p.describe("k", pinned="yes")),
    ("control in name", "name", None, lambda p: p.describe("k", name="a\tb")),
    ("limit 0", "limit", None, lambda p: p.load("k", limit=0)),
    ("limit too large", "limit", 1000, lambda p: p.sessions(limit=1001)),
    ("query no text", "query", None, lambda p: p.search(None)),
    ("query too long", "query", 1000, lambda p: p.search("x" * 1001)),
    (
        "naive since",
        "since",
        None,
        lambda p: p.search("x", SearchFilter(since=datetime(2026, 1, 1))),
    ),
    ("own ttl negative", "ttl_hours", None, lambda p: p.describe("k", ttl_hours=-1)),
    ("own ttl bool", "ttl_hours", None, lambda p: p.describe("k", ttl_hours=True)),
    ("own ttl NaN", "ttl_hours", None, lambda p: p.describe("k", ttl_hours=float("nan"))),
    ("ttl negative", "ttl_hours", None, lambda p: p.cleanup(-1)),
]


@pytest.mark.parametrize(
    ("field", "limit", "call"),
    [case[1:] for case in BAD_CALLS],
    ids=[case[0] for case in BAD_CALLS],
)
def test_bad_input_names_the_field_and_enqueues_nothing(
    field: str, limit: int | None, call: Any, server_url: str, client: redis.Redis
) -> None:
    with Producer(server_url) as producer, pytest.raises(InvalidInputError) as caught:
        call(producer)
    assert caught.value.field == field
    assert caught.value.limit == limit
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "must start with redis://"),
        ("localhost:6379", "must start with redis://"),
        ("ftp://user:secret@host", "must start with redis://"),
        ("redis://localhost:notaport", "cannot be used"),
    ],
)
def test_a_url_that_is_none_is_refused_in_one_line(url: str, words: str) -> None:
    with pytest.raises(InvalidSettingError, match=words) as caught:
        Producer(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_url_anywhere_the_error_says_what_to_set() -> None:
    with pytest.raises(InvalidSettingError, match="BACKSCROLL_REDIS_URL"):
        Producer()


def test_the_environment_names_server_and_queue(
    server_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    monkeypatch.setenv("BACKSCROLL_REDIS_URL", server_url)
    monkeypatch.setenv("BACKSCROLL_QUEUE", "other")
    with Producer() as producer:
        producer.append("k", HI)
    assert client.llen("rq:queue:other") == 1


def test_no_server_is_told_in_one_line_without_the_password() -> None:
    with (
        Producer("redis://user:secret@127.0.0.1:1/0", retries=1) as producer,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        producer.append("k", HI)
    assert "redis://user:***@127.0.0.1:1/0" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.operation, Append)


def test_a_wrong_password_is_told_as_one(server_url: str, client: redis.Redis) -> None:
    client.config_set("requirepass", "right")
    try:
        with (
            Producer(f"{server_url}?password=wrong", retries=0) as producer,
            pytest.raises(AuthenticationFailedError) as caught,
        ):
            producer.append("k", HI)
        assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    finally:
        redis.Redis.from_url(f"{server_url}?password=right").config_set("requirepass", "")


def test_a_full_queue_refuses_and_takes_nothing(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url, max_queue_depth=2) as producer:
        producer.append("k", HI)
        producer.append("k", HI)
        with pytest.raises(QueueFullError, match="may hold 2 operations"):
            producer.append("k", HI)
    assert len(waiting(client)) == 2
    assert len(client.keys("rq:job:*")) == 2


def test_a_job_is_one_that_rq_reads(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url) as producer:
        receipt = producer.append("k", ChatMessage.user("<b>hi</b>"), ChatMessage.assistant("yo"))
    queue = Queue("backscroll", connection=client, serializer=OrjsonSerializer)
    assert [queue.name for queue in Queue.all(client)] == ["backscroll"]
    (job,) = queue.jobs
    assert job.id == receipt.op_id
    assert job.func_name == "backscroll_worker.jobs.append"
    assert job.kwargs["messages"][0] == {"role": "user", "content": "<b>hi</b>"}
    assert job.get_status() == "queued"
    assert job.origin == "backscroll"
    assert job.enqueued_at is not None
    assert job.ttl is None


def test_a_description_carries_no_user_text(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url) as producer:
        producer.append("secret-key", ChatMessage.user("secret-content"))
        producer.rollback("secret-key", "secret-id")
        producer.describe("secret-key", name="secret-name")
    for job_id in waiting(client):
        description = Job.fetch(job_id, client, OrjsonSerializer).description or ""
        assert "secret" not in description
    first = Job.fetch(waiting(client)[0], client, OrjsonSerializer)
    assert first.description == "append 1 message"


def test_jobs_wait_in_the_order_of_the_calls(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url) as producer:
        receipts = [producer.append("k", HI) for _ in range(50)]
    assert waiting(client) == [receipt.op_id for receipt in receipts]


def test_ids_grow_and_message_ids_follow_from_the_op_id(server_url: str) -> None:
    with Producer(server_url) as producer:
        receipt = producer.append("k", HI, HI, HI)
    op_id = receipt.op_id
    assert receipt.message_ids == (op_id, f"{op_id}-1", f"{op_id}-2")
    ids = [new_op_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(value[12] == "7" and value[16] in "89ab" for value in ids)


def test_two_adapters_with_one_dedup_key_enqueue_one_job(
    server_url: str, client: redis.Redis
) -> None:
    with Producer(server_url) as one, Producer(server_url) as other:
        first = one.append("k", HI, dedup_key="update-7")
        second = other.append("k", HI, dedup_key="update-7")
        elsewhere = other.append("k2", HI, dedup_key="update-7")
    assert first == second
    assert waiting(client) == [first.op_id, elsewhere.op_id]


def test_dedup_keys_cannot_be_shifted_between_key_and_dedup_key(server_url: str) -> None:
    with Producer(server_url) as producer:
        assert producer.append("ab", HI, dedup_key="c") != producer.append("a", HI, dedup_key="bc")


def test_a_resend_after_a_lost_reply_keeps_its_op_id_and_is_queued_once(
    server_url: str, client: redis.Redis
) -> None:
    with LossyProxy(server_url.removeprefix("unix://")) as proxy, Producer(proxy.url) as producer:
        before = producer.append("k", HI)
        proxy.lose_replies(b"EVALSHA", count=2)
        lost = producer.append("k", HI)
        after = producer.append("k", HI)
    assert proxy.lost == 2
    assert waiting(client) == [before.op_id, lost.op_id, after.op_id]


def test_an_operation_that_an_error_carries_can_be_sent_again(
    server_url: str, client: redis.Redis
) -> None:
    with (
        LossyProxy(server_url.removeprefix("unix://")) as proxy,
        Producer(proxy.url, retries=0) as producer,
    ):
        producer.append("k", HI)
        proxy.lose_replies(b"EVALSHA")
        with pytest.raises(ServerUnavailableError) as caught:
            producer.append("k", HI)
        assert caught.value.operation is not None
        receipt = producer.send(caught.value.operation)
    assert waiting(client)[1:] == [receipt.op_id]


def test_one_producer_serves_many_threads(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url) as producer:
        barrier = threading.Barrier(8)

        def say(name: str) -> None:
            barrier.wait()
            for number in range(100):
                producer.append(name, ChatMessage.user(str(number)))

        threads = [threading.Thread(target=say, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said: dict[str, list[int]] = {}
    for job_id in waiting(client):
        operation = decode(job_id, client.hget(f"rq:job:{job_id}", "data"))  # type: ignore[arg-type]
        assert isinstance(operation, Append)
        said.setdefault(operation.key, []).append(int(operation.messages[0].content))
    assert said == {f"t{n}": list(range(100)) for n in range(8)}


def test_fsynced_waits_for_the_servers_disk(server_url: str, client: redis.Redis) -> None:
    with Producer(server_url, ack="fsynced") as producer:
        receipt = producer.append("k", HI)
    assert waiting(client) == [receipt.op_id]


def test_fsynced_without_an_append_only_file_is_an_error_not_a_lie(
    server_url: str, client: redis.Redis
) -> None:
    client.config_set("appendonly", "no")
    try:
        with (
            Producer(server_url) as producer,
            pytest.raises(BackscrollError, match="appendonly on"),
        ):
            producer.append("k", HI, ack="fsynced")
    finally:
        client.config_set("appendonly", "yes")


def test_without_a_worker_a_call_says_so_and_what_may_come_of_it(server_url: str) -> None:
    with Producer(server_url, timeout_seconds=0.2) as producer:
        with pytest.raises(NotConfirmedError, match=r"no response from the worker.* the load can"):
            producer.load("k")
        with pytest.raises(NotConfirmedError, match="the append may still be applied"):
            producer.append("k", HI, ack="stored")


def test_any_operation_survives_its_payload(server_url: str, client: redis.Redis) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with Producer(server_url) as producer:
        producer.append("k", ChatMessage("user", "x\0\n\u2028😀", {"a": [1, None]}, None, moment))
        producer.rollback("k", "m")
    first, second = (
        decode(job_id, client.hget(f"rq:job:{job_id}", "data"))  # type: ignore[arg-type]
        for job_id in waiting(client)
    )
    assert isinstance(first, Append)
    assert first.messages[0].content == "x\0\n\u2028😀"
    assert first.messages[0].extra == {"a": [1, None]}
    assert first.messages[0].created_at == moment
    assert isinstance(second, Rollback)
    assert second.message_id == "m"
