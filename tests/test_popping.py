"""Pops through a real queue and a real worker: what they return, also when it was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    NotConfirmedError,
    OperationRefusedError,
    Producer,
)
from backscroll.transport.rq_protocol import results_key
from backscroll_worker.settings import Settings
from tests.processes import running_worker


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_a_pop_whose_answer_is_lost_is_answered_again(
    settings: Settings, client: redis.Redis, tmp_path: Path, kind: str
) -> None:
    settings = settings.with_options(store=f"{kind}://{tmp_path / 'store'}")
    with Producer(settings.redis_url, timeout_seconds=0.05) as hasty:
        hasty.append("s", ChatMessage.user("a"), ChatMessage.user("b", mood="good"))
        with pytest.raises(NotConfirmedError) as caught:
            hasty.pop("s")
    lost = caught.value.operation
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        first = producer.send(lost, "stored")
        assert [(each.content, each.extra) for each in first.messages] == [("b", {"mood": "good"})]
        assert 0 < client.ttl(results_key(lost.op_id)) <= 33  # its text goes soon
        client.delete(results_key(lost.op_id))
        again = producer.send(lost, "stored")
        assert (again.messages, again.duplicate) == (first.messages, True)
        assert [each.content for each in producer.load("s")] == ["a"]

        async def use() -> list[ChatMessage]:
            async with AsyncProducer(settings.redis_url) as other:
                return [*await other.pop("s", 5), *await other.pop("s")]

        assert [each.content for each in asyncio.run(use())] == ["a"]
        producer.delete("s", ack="stored")
        client.delete(results_key(lost.op_id))
        with pytest.raises(OperationRefusedError, match="is not recorded any more"):
            producer.send(lost, "stored")
        assert client.zcard("rq:failed:backscroll") == 0
