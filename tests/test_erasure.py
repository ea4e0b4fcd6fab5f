"""An erasure as an operator asks for it: through the queue, in store, server, archive and spool."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll.contract.codec import decode, encode
from backscroll.contract.errors import InvalidInputError, MalformedJobError
from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Append, Erase
from backscroll.contract.requests import Requests
from backscroll.spool.queue import Spool, read_spool
from backscroll_worker.archive.directory import Archive
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import document, done, run
from tests.processes import contents, depth, running_worker, wait_for

QUAGGA = ChatMessage.user("quagga")
FAILED = "rq:failed:backscroll"


def push(client: redis.Redis, job_id: str, data: bytes) -> None:
    fields: dict[Any, Any] = {
        "data": data,
        "origin": "backscroll",
        "created_at": "2026-11-21T08:00:00.000000Z",
    }
    client.hset(f"rq:job:{job_id}", mapping=fields)
    client.rpush("rq:queue:backscroll", job_id)


def everything(client: redis.Redis) -> bytes:
    """All keys of the server with what is in them."""
    found = b""
    for key in client.scan_iter():
        kind: Any = client.type(key)
        if kind == b"hash":
            value: Any = client.hgetall(key)
        elif kind == b"stream":
            value = client.xrange(key)
        elif kind == b"list":
            value = client.lrange(key, 0, -1)
        elif kind == b"zset":
            value = client.zrange(key, 0, -1)
        else:
            value = client.get(key) if kind == b"string" else client.smembers(key)
        found += key + repr(value).encode()
    return found


def archived_keys(archive: Archive) -> set[str]:
    return {session.info.key for file in archive.files() for session, *_ in file.lines()}


def test_an_erasure_keeps_its_place_and_leaves_nothing_on_the_server(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    requests, bad = (
        Requests(Limits()),
        b'["backscroll_worker.jobs.append", null, [], {"key": "zebra", "x": 1}]',
    )
    old = requests.append("zebra", (QUAGGA,), None)
    with running_worker(settings, client, log):
        producer.describe("zebra", sender="zebrasender", pinned=True)
        ids = [*producer.append("zebra", QUAGGA).message_ids]
        push(client, "bad", bad)
        push(client, "bad-sender", b'["?", null, [], {"attributes": {"sender": "zebrasender"}}]')
        push(client, "other", b'["?", null, [], {"key": "horse"}]')
        wait_for(lambda: client.zcard(FAILED) == 3, "the bad jobs to fail")
        ids += producer.append("zebra", QUAGGA).message_ids
        receipt = producer.erase(sender="zebrasender")
        assert (receipt.sessions, receipt.messages, receipt.failed_jobs) == (1, 2, 2)
        assert (
            receipt.messages_sha256 == hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
        )
        assert client.zrange(FAILED, 0, -1) == [b"other"]
        for word in (b"zebra", b"quagga"):
            assert word not in everything(client)
        producer.append("zebra", ChatMessage.user("later"), ack="stored")
        producer.send(old, ack="stored")  # what a spool or a requeue brings
        assert [message.content for message in producer.load("zebra")] == ["later"]
    for file in settings.data_dir.iterdir():
        if file.name.startswith("backscroll.db"):
            assert b"quagga" not in file.read_bytes()
    assert b"quagga" not in log.read_bytes()
    assert b"zebra" not in log.read_bytes()


def test_a_report_that_names_an_erased_session_goes_too(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    with running_worker(settings, client, log):
        producer.append("zebra", QUAGGA)
        assert producer.cleanup(0).keys == ("zebra",)
        assert b"rq:finished:backscroll" in client.keys("rq:finished:*")
        producer.erase(key="zebra")
        assert client.zcard("rq:finished:backscroll") == 0


@pytest.mark.parametrize("subject", [{"key": "zebra"}, {"sender": "zebrasender"}])
def test_what_the_archive_has_is_erased_and_what_others_have_stays(
    settings: Settings,
    client: redis.Redis,
    producer: Producer,
    log: Path,
    tmp_path: Path,
    subject: dict[str, str],
) -> None:
    archive = Archive(tmp_path / "archive")
    place = {"BACKSCROLL_ARCHIVE": str(archive.directory)}
    with running_worker(settings, client, log, **place):
        for key in ("zebra", "horse"):
            producer.describe(key, sender=f"{key}sender")
            producer.append(key, ChatMessage.user(f"of {key}"))
        producer.cleanup(0)
        assert archived_keys(archive) == {"zebra", "horse"}
        assert producer.erase(**subject).archived == 1
    assert archived_keys(archive) == {"horse"}
    assert archive.verify() == []


def test_the_async_producer_erases_too(settings: Settings, client: redis.Redis, log: Path) -> None:
    async def use() -> int:
        async with AsyncProducer(settings.redis_url, timeout_seconds=20) as producer:
            await producer.append("zebra", QUAGGA)
            return (await producer.erase(key="zebra")).messages

    with running_worker(settings, client, log):
        assert asyncio.run(use()) == 1


def test_a_killed_erasure_is_taken_up_again_by_the_next_worker(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    for number in range(300):
        producer.append("zebra", ChatMessage.user(f"quagga {number}"))
    # Its job has been taken, and its first slices are done, when the worker dies.
    operation = Requests(Limits()).erase("zebra", None, None)
    producer.send(operation)
    with running_worker(settings, client, log) as worker:
        wait_for(lambda: b"erase begins" in log.read_bytes(), "the erasure to begin")
        worker.kill()
        worker.wait()
    with running_worker(settings, client, log):
        wait_for(lambda: depth(client) == 0, "the erasure to end")
        assert producer.session("zebra") is None
    result: Any = client.xrange(f"rq:results:{operation.op_id}")
    assert result
    assert contents(settings, "zebra") == []


def test_only_an_erasure_of_exactly_one_thing_can_be_asked_for(producer: Producer) -> None:
    for wrong in ({}, {"key": "a", "sender": "b"}, {"sender": ""}, {"room": "\x00"}):
        with pytest.raises(InvalidInputError):
            producer.erase(**wrong)
    data = encode(Erase("a" * 32, 1, sender="x"))
    assert orjson.loads(data)[3] == {"at": 1, "sender": "x"}
    with pytest.raises(
        MalformedJobError, match="either a session key, a sender, a room or an author"
    ):
        decode("a" * 32, b'["backscroll_worker.jobs.erase", null, [], {"at": 1}]')


def test_the_command_asks_first_and_prints_the_receipt(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    assert run(settings, "erase", "--sender", "zebra").exit_code == ExitCode.USAGE
    assert run(settings, "erase", "--yes").exit_code == ExitCode.USAGE
    waiting = run(settings, "erase", "--sender", "zebra", "--yes")
    assert waiting.exit_code == ExitCode.NOT_CONFIRMED  # no worker
    with running_worker(settings, client, log):
        producer.append("zebra", QUAGGA, QUAGGA)
        shown = done(settings, "erase", "--session", "zebra", "--yes")
        assert "messages     2" in shown
        assert "zebra" not in shown
        receipt = document(settings, "erase", "--session", "zebra", "--yes")
        assert (receipt["messages"], receipt["failed_jobs"], receipt["spooled"]) == (0, 0, 0)
        asked_at = datetime.fromisoformat(receipt["asked_at"])
        assert abs(datetime.now(UTC) - asked_at) < timedelta(minutes=1)
        producer.append("stable", QUAGGA)
        producer.append("other", QUAGGA)
        producer.describe("stable", room="r1")
        of_room = document(settings, "erase", "--room", "r1", "--yes")
        assert (of_room["sessions"], of_room["messages"]) == (1, 1)
        assert [info.key for info in producer.sessions().sessions] == ["other"]


def test_the_command_empties_a_spool_that_nobody_uses(
    settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.spool"
    away = replace(settings, redis_url=f"unix://{tmp_path}/nobody")
    with running_worker(settings, client, log):
        options = ("--yes", "--spool", str(path))
        with Producer(away.redis_url, spool=path, timeout_seconds=1) as producer:
            for key in ("zebra", "horse", "zebra"):
                producer.append(key, ChatMessage.user(f"quagga of {key}"))
            producer.describe("donkey", sender="zebra")
            producer.append("donkey", QUAGGA)
            used = run(settings, "erase", "--session", "zebra", *options)
            assert used.exit_code == ExitCode.FAILED
            assert "in use by process" in used.stderr
        assert document(settings, "erase", "--session", "zebra", *options)["spooled"] == 2
        assert document(settings, "erase", "--sender", "zebra", *options)["spooled"] == 2
    assert read_spool(path).operations == 1
    for file in tmp_path.glob("adapter.spool*"):
        assert b"of zebra" not in file.read_bytes()
        assert b"donkey" not in file.read_bytes()
    spool = Spool(path)
    (left,) = spool.head(10, 1_000)
    spool.close()
    assert Append.kind in left.job[-1].decode()


def test_check_repairs_the_store_when_no_worker_has_it(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    with running_worker(settings, client, log):
        producer.append("zebra", QUAGGA, ack="stored")
        refused = run(settings, "check", "--repair")
        assert refused.exit_code == ExitCode.STORE
        assert "stop the worker" in refused.stderr
    connection = apsw.Connection(str(settings.data_dir / "backscroll.db"))
    connection.execute("UPDATE sessions SET message_count = 7")
    connection.execute("DELETE FROM message_index WHERE rowid = 1")
    connection.close()
    told = run(settings, "check", "--repair")
    assert told.exit_code == ExitCode.OK
    assert "found  index: 1 messages cannot be found by search" in told.stdout
    assert "done   corrected the message count of 1 sessions" in told.stdout
    assert document(settings, "check", "--repair", "--deep") == {
        "done": [],
        "found": [],
        "left": [],
    }
    assert run(settings, "check", "--repair", "--skip-verify").exit_code == ExitCode.USAGE


ZOE: dict[str, Any] = {"author": "zebra", "author_name": "Zoe"}


def _group(*authors: str | None) -> tuple[ChatMessage, ...]:
    said = {"zebra": "quagga", "bob": "hay", None: "straw"}
    return tuple(ChatMessage.user(said[author], author=author) for author in authors)


def test_an_authors_erasure_leaves_a_failed_job_what_others_said(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    requests = Requests(Limits())
    mixed, alone = (
        replace(requests.append("group", _group(*authors), None), op_id=op_id)
        for op_id, authors in (("m" * 32, ("bob", "zebra", None)), ("a" * 32, ("zebra",)))
    )
    with running_worker(settings, client, log):
        stored = producer.append("group", *_group("zebra", "bob"), ack="stored").message_ids
        edits = [
            replace(requests.replace("group", ChatMessage.user(text), id_), op_id=op_id)
            for op_id, text, id_ in zip("eh", ("quagga", "hay"), stored, strict=True)
        ]
        for operation in (mixed, alone, *edits):
            push(client, operation.op_id, encode(operation).replace(b'"key"', b'"kay"'))
        push(client, "bad", b'["?", null, [], {"messages": [{"author": "zebra"}]}]')
        wait_for(lambda: client.zcard(FAILED) == 5, "the jobs to fail")
        for operation in (mixed, alone, *edits):  # as if they had failed for another reason
            client.hset(f"rq:job:{operation.op_id}", "data", encode(operation))
        receipt = producer.erase(author="zebra")
        assert (receipt.sessions, receipt.messages, receipt.failed_jobs) == (1, 1, 4)
        assert set(client.zrange(FAILED, 0, -1)) == {mixed.op_id.encode(), b"h"}
        for word in (b"zebra", b"quagga"):
            assert word not in everything(client)
        rest: Any = client.hget(f"rq:job:{mixed.op_id}", "data")
        producer.send(decode(mixed.op_id, rest), ack="stored")
        loaded = producer.load("group")
    assert [message.content for message in loaded] == ["hay", "hay", "straw"]
    assert [message.message_id for message in loaded[1:]] == [
        mixed.message_ids[0],
        mixed.message_ids[2],
    ]


def test_an_author_is_erased_from_a_spool_too(
    settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.spool"
    with Producer(f"unix://{tmp_path}/nobody", spool=path, timeout_seconds=1) as producer:
        for authors in (("zebra",), ("bob",), ("bob", "zebra", "bob")):
            producer.append("group", *_group(*authors))
        producer.replace("group", ChatMessage.user("quagga", **ZOE))
        said = ChatMessage.user("quagga", **ZOE, platform_id="p")
        (id_,) = producer.append("group", said).message_ids
        producer.replace("group", ChatMessage.user("a quagga"), id_)
        producer.replace("group", ChatMessage.user("a quagga"), platform_id="p")
    with running_worker(settings, client, log):
        spooled = ("erase", "--author", "zebra", "--yes", "--spool", str(path))
        assert document(settings, *spooled)["spooled"] == 6
        shown = done(settings, *spooled)
        assert "of           an author" in shown
        assert read_spool(path).operations == 2
        for file in tmp_path.glob("adapter.spool*"):
            assert b"zebra" not in file.read_bytes()
            assert b"quagga" not in file.read_bytes()
        with Producer(settings.redis_url, spool=path, timeout_seconds=20) as producer:
            wait_for(lambda: read_spool(path).operations == 0, "the spool to be sent")
            producer.append("group", *_group(None), ack="stored")
            loaded = producer.load("group")
    assert [message.content for message in loaded] == ["hay", "hay", "hay", "straw"]
    assert [str(message.message_id)[32:] for message in loaded] == ["", "", "-2", ""]
