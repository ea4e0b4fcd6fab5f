"""Jobs in flight: taken in order, put back in order, and fenced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    jobs = reservations.take(3)
    assert [(job.id, job.payload, job.result_ttl) for job in jobs] == [
        (name, b"x", 0) for name in "abc"
    ]
    assert in_flight(client) == list("abc")
    assert ids(client, QUEUE) == list("de")


def test_put_back_restores_the_queue_as_it_was(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcde")
    reservations.take(2)
    reservations.take(2)
    assert reservations.put_back() == 4
    assert ids(client, QUEUE) == list("abcde")
    assert in_flight(client) == []


def test_what_was_asked_for_comes_with_the_next_take(
    client: redis.Redis, reservations: Reservations
) -> None:
    assert reservations.take(1) == []  # so that the server knows the script
    push(client, *"abcd")
    reservations.ask(3)
    assert [job.id for job in reservations.take(10)] == list("abc")
    assert [job.id for job in reservations.take(10)] == ["d"]
    assert reservations.take(10) == []


def test_what_was_asked_for_and_never_looked_at_goes_back_too(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, *"abcd")
    reservations.take(1)
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
        late.take(1)
    late.ask(1)
    with pytest.raises(FencedError):
        late.take(1)
    assert in_flight(client) == []
    assert [job.id for job in reservations.take(1)] == ["a"]


def test_after_the_server_lost_its_data_a_take_is_refused_until_put_back(
    client: redis.Redis, reservations: Reservations
) -> None:
    client.flushall()
    push(client, "a")
    with pytest.raises(FencedError):
        reservations.take(1)
    reservations.put_back()
    assert [job.id for job in reservations.take(1)] == ["a"]


def test_nothing_is_taken_while_the_workers_are_suspended(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, "a")
    suspend(client)
    with pytest.raises(SuspendedError):
        reservations.take(1)
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
    gone, strange, text = reservations.take(10)
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
    assert reservations.wait_and_take(1, 5) == []
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


def test_a_wait_takes_nothing_without_scripts_or_while_suspended(
    client: redis.Redis, reservations: Reservations
) -> None:
    push(client, "a")
    client.script_flush()
    assert reservations.wait_and_take(1, 1) == []
    assert in_flight(client) == []
    assert [job.id for job in reservations.take(1)] == ["a"]
    push(client, "b")
    suspend(client)
    with pytest.raises(SuspendedError):
        reservations.wait_and_take(1, 1)
    assert ids(client, QUEUE) == ["b"]


def _is_blocked(client: redis.Redis) -> bool:
    clients: Any = client.info("clients")
    return int(clients["blocked_clients"]) > 0
