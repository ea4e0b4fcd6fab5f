"""The release of jobs that are done, cut off at any place: what was promised is kept."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll.transport.pinned_connection import Command, PinnedConnection
from backscroll_worker.loop.tails import Tails
from backscroll_worker.settings import Settings
from tests.processes import contents, depth, work_here

WORDS = [f"word {number}" for number in range(1_100)]


class _PulledError(Exception):
    """The plug was pulled."""


@pytest.fixture(params=[True, False], ids=["others read", "nobody reads"], autouse=True)
def others_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the worker takes it that others read, and releases in smaller steps."""
    monkeypatch.setattr(Tails, "are_kept", property(lambda _tails: request.param))
    return bool(request.param)


@pytest.fixture(params=["after the first step", "before the transaction", "in the transaction"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies in the middle of its first acknowledgement, once."""
    send = PinnedConnection.send

    def send_some(channel: PinnedConnection, *commands: Command) -> None:
        if commands[-1] != ("EXEC",):
            send(channel, *commands)
            return
        monkeypatch.setattr(PinnedConnection, "send", send)
        place = {
            "after the first step": 1,
            "before the transaction": commands.index(("MULTI",)),
            "in the transaction": len(commands) - 1,
        }[request.param]
        send(channel, *commands[:place])
        channel.replies()
        channel.reset()
        raise _PulledError

    monkeypatch.setattr(PinnedConnection, "send", send_some)


def test_a_release_that_is_cut_off_loses_no_job_and_no_result(
    settings: Settings, producer: Producer, client: redis.Redis, cut: None
) -> None:
    del cut
    for word in WORDS:
        producer.append("k", ChatMessage.user(word))
    confirmed = producer.append("k", ChatMessage.user("confirmed"), dedup_key="1")
    client.hset(f"rq:job:{confirmed.op_id}", "result_ttl", 60)  # as with ack="stored"
    with pytest.raises(_PulledError):
        work_here(settings)
    work_here(settings)
    assert contents(settings, "k") == [*WORDS, "confirmed"]
    assert depth(client) == 0
    results: Any = client.xrange(f"rq:results:{confirmed.op_id}")
    assert len(results) == 1
    assert not client.zcard("rq:failed:backscroll")
    assert not list(client.scan_iter("rq:job:*"))


def test_only_jobs_without_a_result_are_released_before_the_transaction(
    settings: Settings,
    producer: Producer,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    *,
    others_read: bool,
) -> None:
    sent = list[Command]()
    send = PinnedConnection.send

    def note(channel: PinnedConnection, *commands: Command) -> None:
        if ("EXEC",) in commands:
            sent.extend(commands)
        send(channel, *commands)

    plain = [producer.append("k", ChatMessage.user(word)).op_id for word in WORDS]
    awaited = producer.append("k", ChatMessage.user("confirmed")).op_id
    client.hset(f"rq:job:{awaited}", "result_ttl", 60)
    monkeypatch.setattr(PinnedConnection, "send", note)
    work_here(settings)
    ahead = sent[: sent.index(("MULTI",))]
    # Each a script, its number of keys, the list, and whether the jobs are done.
    assert [id_ for command in ahead for id_ in command[5:]] == [id_.encode() for id_ in plain]
    assert (len(ahead) > 2) == others_read
    assert max(map(len, ahead)) < len(WORDS)
    assert any(awaited.encode() in command for command in sent[len(ahead) :])


def test_a_failed_job_that_is_done_later_in_its_group_keeps_its_payload(
    settings: Settings, producer: Producer, client: redis.Redis
) -> None:
    """It is on the queue twice, and what it needs comes in between."""
    producer.append("k", ChatMessage.user("hi"))
    op_id = producer.fork("k", "copy", ack="queued").op_id
    client.lpush("rq:queue:backscroll", op_id)
    job: Any = client.hgetall(f"rq:job:{op_id}")
    work_here(settings)
    assert contents(settings, "copy") == ["hi"]
    assert client.zrange("rq:failed:backscroll", 0, -1) == [op_id.encode()]
    left: Any = client.hgetall(f"rq:job:{op_id}")
    assert left.items() >= {**job, b"status": b"failed"}.items()
