"""Two queues on one server, each with a store of its own: nothing of the one reaches the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage, OperationRefusedError, Producer
from backscroll.contract.ids import derived_op_id
from backscroll.contract.operations import Append
from backscroll_worker.maintenance.scheduler import MaintenanceScheduler
from backscroll_worker.ops.stats import SchedulerStats, read_queue
from backscroll_worker.settings import Settings
from tests.processes import contents, running_worker, work_here

HI = ChatMessage.user("hi")


@dataclass(frozen=True)
class Side:
    """One queue, its store and a producer on it."""

    settings: Settings
    producer: Producer
    log: Path

    def work(self) -> None:
        work_here(self.settings)

    def contents(self) -> list[str]:
        return contents(self.settings, "k")


@pytest.fixture
def sides(settings: Settings, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """The default queue, and another one on the same server."""
    with ExitStack() as stack:

        def side(queue: str) -> Side:
            own = settings.with_options(queue=queue, store=f"sqlite://{tmp_path / queue}.db")
            producer = stack.enter_context(Producer(own.redis_url, queue, timeout_seconds=60))
            return Side(own, producer, tmp_path / f"{queue}.log")

        yield side("backscroll"), side("other")


def test_one_dedup_key_on_two_queues_is_stored_in_both_stores(sides: tuple[Side, Side]) -> None:
    for side in sides:
        said = ChatMessage.user(side.settings.queue)
        side.producer.append("k", said, dedup_key="update 1")
    for side in sides:
        side.work()
    assert [side.contents() for side in sides] == [["backscroll"], ["other"]]


def test_a_stored_append_is_answered_by_its_own_queues_worker(
    sides: tuple[Side, Side], client: redis.Redis
) -> None:
    first, second = sides
    first.producer.append("k", HI, dedup_key="update 1")  # nobody works on that queue
    with running_worker(second.settings, client, second.log):
        said = [second.producer.append("k", HI, dedup_key="update 1", ack="stored") for _ in "ab"]
        assert [receipt.duplicate for receipt in said] == [False, True]
        assert [message.content for message in second.producer.load("k")] == ["hi"]
    first.work()
    assert first.contents() == second.contents() == ["hi"]


def test_an_operation_of_another_queue_is_refused_and_not_acknowledged(
    sides: tuple[Side, Side],
) -> None:
    first, second = sides
    operation = Append("0" * 31 + "7", 1, "k", (HI,))
    first.producer.send(operation)
    with pytest.raises(OperationRefusedError, match="on queue 'backscroll' of this server"):
        second.producer.send(operation)
    first.work()
    second.producer.send(operation)  # the other queue is done with it
    second.work()
    assert first.contents() == second.contents() == ["hi"]


def test_the_default_queues_ids_are_those_of_earlier_versions() -> None:
    known = derived_op_id("telegram_7", "update 1")
    assert known == "1089481b8d4117924d32a97bf172f5df"
    assert derived_op_id("telegram_7", "update 1", "backscroll") == known


def test_no_two_queues_keys_and_dedup_keys_share_an_id() -> None:
    names, queues = ["a", "1", "1:a", "a1:a", "0", "10:", "a:1"], ["backscroll", "a", "1", "11"]
    places = list(product(queues, names, names))
    assert len({derived_op_id(key, dedup, queue) for queue, key, dedup in places}) == len(places)


def test_a_scheduler_counts_for_its_own_queue_only(
    sides: tuple[Side, Side], client: redis.Redis
) -> None:
    own, other = (side.settings for side in sides)
    assert own.redis_url is not None
    schedulers = MaintenanceScheduler(own, own.redis_url)
    seen: list[tuple[SchedulerStats, ...]] = []

    def look(_seconds: float) -> bool:
        seen.extend(read_queue(client, each.queue).schedulers for each in (own, other))
        return True

    schedulers.run(look)
    ours, theirs = seen
    assert [each.name for each in ours] == [schedulers.name]
    assert theirs == ()


def test_a_scheduler_of_an_earlier_version_counts_for_every_queue(client: redis.Redis) -> None:
    client.zadd("rq:cron_schedulers", {"host:1234:abcdef": time.time()})
    assert len(read_queue(client, "backscroll").schedulers) == 1
    assert len(read_queue(client, "other").schedulers) == 1
