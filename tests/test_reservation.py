"""Jobs in flight: taken in order, put back in order, and fenced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import pytest
import redis
from rq.suspension import suspend

from backscroll_worker.loop.reservation import (
    MAX_GROUP_BYTES,
    FencedError,
    Reservations,
    SuspendedError,
)

QUEUE = "rq:queue:backscroll"


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client


@pytest.fixture
def reservations(client: redis.Redis) -> Reservations:
    reservations = Reservations(client, "backscroll")
    reservations.put_back()
    return reservations


def push(client: redis.Redis, *ids: str, data: bytes = b"x") -> None:
    for job_id in ids:
        client.hset(f"rq:job:{job_id}", mapping={"data": data, "result_ttl": 0})
        client.rpush(QUEUE, job_id)


def ids(client: redis.Redis, key: str) -> list[str]:
    found: Any = client.lrange(key, 0, -1)
    return [job_id.decode() for job_id in found]


def in_flight(client: redis.Redis) -> list[str]:
    return ids(client, f"{QUEUE}:intermediate")


def test_what_is_taken_is_in_flight_in_its_order(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcde")
    jobs = list(reservations.take(3))
    assert [(job.id, job.payload, job.result_ttl) for job in jobs] == [
        (name, b"x", 0) for name in "abc"
    ]
    assert in_flight(client) == list("abc")
    assert ids(client, QUEUE) == list("de")


def test_put_back_restores_the_queue_as_it_was(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcde")
    list(reservations.take(2))
    list(reservations.take(2))
    assert reservations.put_back() == 4
    assert ids(client, QUEUE) == list("abcde")
    assert in_flight(client) == []


def test_what_was_asked_for_comes_with_the_next_take(
    client: redis.Redis, reservations: Reservations
) -> None:
    assert list(reservations.take(1)) == []  # so that the server knows the script
    push(client, *"abcd")
    reservations.ask(3)
    assert [job.id for job in reservations.take(10)] == list("abcd")
    assert list(reservations.take(10)) == []


def test_what_was_asked_for_and_never_looked_at_goes_back_too(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcd")
    list(reservations.take(1))
    reservations.ask(2)
    reservations.put_back()
    client.ping()
    assert ids(client, QUEUE) + in_flight(client) == list("abcd")
    reservations.put_back()
    assert ids(client, QUEUE) == list("abcd")
    assert [job.id for job in reservations.take(10)] == list("abcd")


def test_a_take_that_arrives_after_a_put_back_is_refused(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"ab")
    late = Reservations(client, "backscroll")
    late.put_back()
    reservations.put_back()
    with pytest.raises(FencedError):
        list(late.take(1))
    late.ask(1)
    with pytest.raises(FencedError):
        list(late.take(1))
    assert in_flight(client) == []
    assert [job.id for job in reservations.take(1)] == ["a"]


def test_after_the_server_lost_its_data_a_take_is_refused_until_put_back(
    client: redis.Redis, reservations: Reservations
) -> None:
    client.flushall()
    push(client, "a")
    with pytest.raises(FencedError):
        list(reservations.take(1))
    reservations.put_back()
    assert [job.id for job in reservations.take(1)] == ["a"]


def test_nothing_is_taken_while_the_workers_are_suspended(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, "a")
    suspend(client)
    with pytest.raises(SuspendedError):
        list(reservations.take(1))
    assert ids(client, QUEUE) == ["a"]


def test_a_group_ends_where_it_becomes_too_large(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcd", data=b"x" * (MAX_GROUP_BYTES // 2))
    assert [job.id for job in reservations.take(10)] == ["a", "b"]
    assert [job.id for job in reservations.take(10)] == ["c", "d"]


def test_groups_of_many_thousands_fit_the_script(
    client: redis.Redis, reservations: Reservations
) -> None:
    names = [f"j{number}" for number in range(10_000)]
    push(client, *names)
    assert [job.id for job in reservations.take(10_000)] == names
    assert in_flight(client) == names


def test_ids_and_hashes_that_are_none_say_what_is_wrong(
    client: redis.Redis, reservations: Reservations
) -> None:
    client.rpush(QUEUE, "gone", "a b", "text")
    client.set("rq:job:text", "no hash")
    gone, strange, text = list(reservations.take(10))
    assert gone.is_gone
    assert "characters" in strange.problem
    assert "does not hold an RQ job" in text.problem


def test_a_restarted_servers_empty_script_cache_goes_unnoticed(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"ab")
    client.script_flush()
    reservations.ask(1)
    assert [job.id for job in reservations.take(1)] == ["a"]


def test_a_wait_ends_with_the_first_job_and_takes_it(
    client: redis.Redis, server_url: str, reservations: Reservations
) -> None:
    assert list(reservations.wait_and_take(1, 5)) == []
    with redis.Redis.from_url(server_url) as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reservations.wait_and_take, 30, 5)
        while not _is_blocked(other):
            time.sleep(0.01)
        push(other, *"ab")
        jobs = waiting.result(timeout=60)
    # Whoever pushes one by one may be faster or slower than the take; what is taken is in order.
    taken = [job.id for job in jobs]
    assert taken
    assert taken + ids(client, QUEUE) == list("ab")
    assert in_flight(client) == taken


def test_a_wait_is_over_at_once_when_jobs_are_there(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abc")
    assert [job.id for job in reservations.wait_and_take(30, 2)] == ["a", "b"]
    assert ids(client, QUEUE) == ["c"]


def test_a_wait_goes_without_known_scripts_and_takes_nothing_while_suspended(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, "a")
    client.script_flush()
    assert [job.id for job in reservations.wait_and_take(1, 1)] == ["a"]
    assert in_flight(client) == ["a"]
    push(client, "b")
    suspend(client)
    with pytest.raises(SuspendedError):
        list(reservations.wait_and_take(1, 1))
    assert ids(client, QUEUE) == ["b"]


@pytest.mark.parametrize(("far_seconds", "calls"), [(inf, 22), (0.0, 5)])
def test_many_jobs_are_taken_in_order_in_small_steps_or_growing_ones_from_afar(
    client: redis.Redis,
    reservations: Reservations,
    monkeypatch: pytest.MonkeyPatch,
    far_seconds: float,
    calls: int,
) -> None:
    monkeypatch.setattr("backscroll_worker.loop.reservation._FAR_SECONDS", far_seconds)
    names = [f"job{number}" for number in range(1_000)]
    push(client, *names)
    assert [job.id for job in reservations.take(1)] == names[:1]  # the server knows the script
    reservations.takes_few = True
    reservations.ask(1_000)
    client.config_resetstat()
    assert [job.id for job in reservations.take(699)] == names[1:700]
    assert in_flight(client) == names[:700]
    assert ids(client, QUEUE) == names[700:]
    stats: Any = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] in (calls - 1, calls)  # one was under way
    assert [job.id for job in reservations.take(1_000)] == names[700:]


def test_the_steps_of_a_take_end_where_the_group_becomes_too_large(
    client: redis.Redis, reservations: Reservations
) -> None:
    names = [f"job{number}" for number in range(400)]
    push(client, *names, data=b"x" * (MAX_GROUP_BYTES // 200 + 1))
    reservations.takes_few = True
    groups = [list(reservations.take(1_000)) for _ in range(3)]
    assert [len(jobs) for jobs in groups] == [200, 200, 0]
    assert [job.id for jobs in groups for job in jobs] == names


@pytest.mark.parametrize("is_suspended", [True, False])
def test_what_was_taken_before_a_later_step_is_refused_is_not_lost(
    client: redis.Redis,
    reservations: Reservations,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_suspended: bool,
) -> None:
    names = [f"job{number}" for number in range(400)]
    push(client, *names)
    other = Reservations(client, "backscroll")
    first_ask = reservations._ask

    def interfere(*arguments: Any) -> None:
        monkeypatch.undo()
        if is_suspended:
            suspend(client)
        else:
            other.put_back()
        first_ask(*arguments)

    reservations.takes_few = True
    reservations.ask(1_000)
    monkeypatch.setattr(reservations, "_ask", interfere)
    if is_suspended:
        taken = [job.id for job in reservations.take(1_000)]
        assert taken == in_flight(client) == names[: len(taken)]
        assert taken
        with pytest.raises(SuspendedError):
            list(reservations.take(1_000))
    else:
        with pytest.raises(FencedError):
            list(reservations.take(1_000))
    assert in_flight(client) + ids(client, QUEUE) == names


def _is_blocked(client: redis.Redis) -> bool:
    clients: Any = client.info("clients")
    return int(clients["blocked_clients"]) > 0
