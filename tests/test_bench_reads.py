"""The benchmark of reads: what it measures is what its rows say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.transport.connection import connect
from backscroll.transport.rq_protocol import queue_key
from bench.arena import BenchmarkFailedError, arena
from bench.conversations import EMBEDDED, LOCAL_READS, OPENAI, STORED, content_of, sayings
from bench.measure import Series, best
from bench.million_reads import PAGE
from bench.progress import SqliteProgress
from bench.reads import Reading, reading
from tests.processes import wait_for

pytestmark = pytest.mark.slow

SESSIONS, ITEMS = 2, 60


@pytest.fixture
def opened(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setenv("BACKSCROLL_GROUP_SIZE", "250")  # a small part of what is to wait
    with arena(server_url, tmp_path) as fresh, reading(fresh, SESSIONS, ITEMS) as found:
        yield found


def texts(opened: Reading, name: str, session: int) -> list[str]:
    loaded = opened.runner.run(opened.histories[name][session].load(1_000))
    return [content_of(message) for message in loaded]


def test_histories_that_are_compared_hold_the_same_and_do_the_same(opened: Reading) -> None:
    said = [message.content for message in itertools.islice(sayings(), SESSIONS * ITEMS)]
    for name in opened.histories:
        assert texts(opened, name, 0) == said[:ITEMS], name
        assert texts(opened, name, 1) == said[ITEMS:], name
        assert opened.load_p50(name, 5) > 0
    of_their_own = [name for name in opened.histories if name not in {STORED, LOCAL_READS}]
    assert len(of_their_own) == len(OPENAI) + 2
    for name in of_their_own:
        assert opened.pop_p50(name, 4) > 0
        left = [texts(opened, name, session) for session in range(SESSIONS)]
        assert sum(map(len, left)) == len(said) - 4, name
        assert left == [said[: len(left[0])], said[ITEMS:][: len(left[1])]], name
        assert opened.turns(name, 3) > 0
        now = [texts(opened, name, session) for session in range(SESSIONS)]
        assert [len(each) for each in now] == [len(each) + 6 for each in left], name


def test_a_load_of_fewer_messages_is_no_measurement(opened: Reading) -> None:
    one = opened.histories[EMBEDDED][0]
    while len(opened.runner.run(one.load(PAGE))) == PAGE:
        opened.runner.run(one.pop())
    with pytest.raises(BenchmarkFailedError, match="49 messages were loaded, and not 50"):
        opened.load_p50(EMBEDDED, 20)


def test_loads_are_measured_while_another_process_fills_the_queue(opened: Reading) -> None:
    assert opened.load_p99(5) > 0
    with SqliteProgress(opened.arena) as seen, connect(opened.arena.url) as server:
        before = seen.committed()
        assert opened.load_p99_while_jobs_wait(4, 0.1, jobs=2_500) > 0
        assert seen.committed() >= before + 2_500
        assert server.llen(queue_key(DEFAULT_QUEUE)) == 0


def test_a_queue_is_filled_to_the_same_depth_again(server_url: str, tmp_path: Path) -> None:
    queue = queue_key(DEFAULT_QUEUE)
    with (
        arena(server_url, tmp_path) as fresh,
        connect(server_url) as server,
        fresh.running("bench.refill", "2500"),
    ):
        wait_for(lambda: server.llen(queue) == 2_500, "a full queue")
        taken: Any = server.lpop(queue, 500)
        wait_for(lambda: server.llen(queue) == 2_500, "a queue that is full again")
        waiting: Any = server.lrange(queue, 0, -1)
    assert len({*taken, *waiting}) == 3_000


def test_the_best_is_that_of_the_highest_median_that_was_measured() -> None:
    slow, fast = Series("slow", "x", (1, 2, 90)), Series("fast", "x", (3, 3, 3))
    failed = Series("failed", "x", (), "it broke")
    assert best([slow, failed, fast]) is fast
    assert best([failed]) is failed
