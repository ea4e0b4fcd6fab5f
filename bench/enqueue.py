"""Enqueue: how many appends per second one producer process enqueues.

Nothing else runs meanwhile. The messages are read beforehand, so that only the calls are timed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from backscroll import AsyncProducer, Producer
from backscroll.contract.ids import DEFAULT_QUEUE
from bench.arena import Arena
from bench.data import calls, messages
from bench.fill import CALLERS, enqueue_concurrently

_FUNCTION: Final = "backscroll_worker.jobs.append"
_WARM_UP: Final = 20


def one_at_a_time(arena: Arena, count: int) -> float:
    """`Producer.append`, calls per second."""
    sayings = list(messages(count + _WARM_UP))
    with Producer(arena.url) as producer:
        for key, message in sayings[:_WARM_UP]:
            producer.append(key, message)
        began = time.perf_counter()
        for key, message in sayings[_WARM_UP:]:
            producer.append(key, message)
        return count / (time.perf_counter() - began)


def concurrently(arena: Arena, count: int) -> float:
    """`AsyncProducer.append` from 100 callers on one event loop, calls per second."""
    return asyncio.run(_concurrently(arena.url, count))


def with_rq(arena: Arena, count: int) -> float:
    """`rq.Queue.enqueue` of the same function and arguments, calls per second."""
    payloads = [arguments for _, arguments in calls(count + _WARM_UP)]
    with redis.Redis.from_url(arena.url) as connection:
        queue = Queue(DEFAULT_QUEUE, connection=connection, serializer=JSONSerializer)
        for arguments in payloads[:_WARM_UP]:
            queue.enqueue(_FUNCTION, result_ttl=0, **arguments)
        began = time.perf_counter()
        for arguments in payloads[_WARM_UP:]:
            queue.enqueue(_FUNCTION, result_ttl=0, **arguments)
        return count / (time.perf_counter() - began)


async def _concurrently(url: str, count: int) -> float:
    sayings = list(messages(count + _WARM_UP))
    async with AsyncProducer(url) as producer:
        await enqueue_concurrently(producer, iter(sayings[:_WARM_UP]), CALLERS)
        began = time.perf_counter()
        await enqueue_concurrently(producer, iter(sayings[_WARM_UP:]), CALLERS)
        return count / (time.perf_counter() - began)
