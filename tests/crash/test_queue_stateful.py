"""Hypothesis drives operations, duplicates and redelivery through queue and worker.

The same operations go into both stores, each by a queue in a database of its own on a real server
(a job's id is its op id, which is in use once in a database), and are worked through by
real workers, in bursts.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from backscroll import ChatMessage, Producer
from backscroll.contract.operations import Write
from backscroll_worker.settings import Settings
from backscroll_worker.testing.conformance.stateful import KEYS as SESSION_KEYS
from backscroll_worker.testing.conformance.stateful import Operations, keys, messages
from backscroll_worker.testing.model import Model, state_of
from backscroll_worker.testing.stores import open_tested, requests
from tests.crash.checker import IN_FLIGHT, QUEUE, check_server
from tests.crash.lives import Life

SCHEMES: Final = ("sqlite", "jsonl")
_TIMES: Final = ("created_at", "last_activity", "turn_started_at", "turn_expires_at")


class Queues(Operations):
    """Two queues, two stores, one model."""

    url = ""

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.settings = [
            Settings(
                f"{self.url}?db={number}", self.directory, f"{scheme}://{self.directory}/{scheme}"
            )
            for number, scheme in enumerate(SCHEMES)
        ]
        urls = [str(each.redis_url) for each in self.settings]
        self.clients = [redis.Redis.from_url(url) for url in urls]
        self.clients[0].flushall()
        self.producers = [Producer(url) for url in urls]
        self.model = Model()
        self.waiting: list[Write] = []

    def teardown(self) -> None:
        self.work(group_size=5)
        for each in self.settings:
            with open_tested(each.store, read_only=True) as store:
                assert store.verify() == []
        for client, producer in zip(self.clients, self.producers, strict=True):
            client.close()
            producer.close()
        shutil.rmtree(self.directory)

    def take(self, operation: Write) -> None:
        for producer in self.producers:
            producer.send(operation)
        self.waiting.append(operation)

    @rule(key=keys, said=messages, dedup_key=st.sampled_from("ab"))
    def append_once(self, key: str, said: ChatMessage, dedup_key: str) -> None:
        self.send(requests.append(key, (said,), dedup_key))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def push_an_id_twice(self, data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(self.waiting))
        for client in self.clients:
            client.rpush(QUEUE, operation.op_id)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 5))
    def die_after_reserve(self, count: int) -> None:
        """As a worker leaves it that took some jobs and died."""
        for client in self.clients:
            for _ in range(count):
                client.lmove(QUEUE, IN_FLIGHT, "LEFT", "RIGHT")

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 5))
    def die_after_commit(self, count: int) -> None:
        """As a worker leaves it that stored some jobs and died before it could say so."""
        queued: dict[str, Write] = {}
        for operation in self.waiting:
            queued.setdefault(operation.op_id, operation)  # a dedup key's first is what was queued
        first = list(queued.values())[:count]
        for client, each in zip(self.clients, self.settings, strict=True):
            while client.lmove(IN_FLIGHT, QUEUE, "RIGHT", "LEFT"):
                pass
            with open_tested(each.store) as store:
                store.apply(first)
        self.die_after_reserve(count)

    @rule(group_size=st.sampled_from([1, 2, 5, 2_000]))
    def work(self, group_size: int) -> None:
        log = self.directory / "worker.log"
        lives = [
            Life(each.with_options(group_size=group_size), log).start() for each in self.settings
        ]
        for life in lives:
            life.join(60)
            life.kill()  # or it would work on in the next example
        assert [life.exitcode for life in lives] == [0, 0], log.read_text()
        for client in self.clients:
            assert check_server(client) == []
        self.model.apply(self.waiting, now=1)
        self.waiting = []
        expected = _without_times(self.model.state(SESSION_KEYS))
        for each in self.settings:
            with open_tested(each.store) as store:
                assert _without_times(state_of(store, SESSION_KEYS)) == expected
                listed = {info.key for info in store.sessions().sessions}
                assert listed == set(self.model.sessions)
                for query in ("apple", "日", "ete -pear"):
                    hits = store.search(query, limit=999)
                    seen = {(hit.key, hit.message.content) for hit in hits}
                    assert seen == self.model.search(query)


@pytest.fixture(autouse=True)
def _server(server_url: str) -> None:
    Queues.url = server_url


def _without_times(state: Any) -> Any:
    return {
        key: (found, info and {k: v for k, v in info.to_dict().items() if k not in _TIMES})
        for key, (found, info) in state.items()
    }


TestQueues = Queues.TestCase
TestQueues.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink takes minutes here
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
