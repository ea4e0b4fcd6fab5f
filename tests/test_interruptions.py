"""Callers that are interrupted, closed or cancelled in the middle: whoever comes next can go on."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, BackscrollError, ChatMessage, Producer, SpoolUnusableError
from backscroll.transport.mailbox import AsyncBox

HI = ChatMessage.user("hi")
NOWHERE = "redis://127.0.0.1:1/0"


class InterruptionError(BaseException):
    """What a soft time limit raises, wherever the program happens to be."""


class SoftLimitError(Exception):
    """As Celery's and RQ's do."""


@contextmanager
def interrupted_at(
    line: int, *places: str, by: type[BaseException] = InterruptionError
) -> Iterator[Callable[[], bool]]:
    """Raises where the line with that number is run in files of `places`; whether it came to it."""
    left = line

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if not any(place in frame.f_code.co_filename for place in places):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise by
        return trace

    sys.settrace(trace)
    try:
        with suppress(by):
            yield lambda: left <= 0
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("by", [InterruptionError, SoftLimitError])
def test_a_call_after_one_that_was_interrupted_anywhere_goes_on(
    server_url: str, client: redis.Redis, by: type[BaseException]
) -> None:
    acknowledged: list[str] = []
    line, came_to_it = 0, True
    while came_to_it:
        line += 7
        with Producer(server_url, retries=0) as producer:
            places = ("/transport/pinned_connection.py", "/redis/_parsers/")
            with interrupted_at(line, *places, by=by) as it_came:
                acknowledged.append(producer.append("s", HI).op_id)
            came_to_it = it_came()
            acknowledged.append(producer.append("s", HI).op_id)
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    ids = [raw.decode() for raw in queued]
    assert len(acknowledged) > 20
    assert [op_id for op_id in ids if op_id in acknowledged] == acknowledged


def test_a_call_that_was_interrupted_anywhere_leaves_no_warning(server_url: str) -> None:
    line, came_to_it = 0, True
    with Producer(server_url) as producer, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while came_to_it:
            line += 1
            with interrupted_at(line, "/backscroll/calls.py", "/client.py") as it_came:
                producer.append("s", HI)
            came_to_it = it_came()
    assert line > 10
    assert [str(warning.message) for warning in caught] == []


def test_a_signals_handler_may_use_the_producer_wherever_it_interrupts_it(
    server_url: str, client: redis.Redis
) -> None:
    ids: list[str] = []
    with Producer(server_url) as producer:

        def handle(frame: FrameType, event: str, _argument: object) -> Any:
            if event == "line":
                ids.append(producer.append("s", HI).op_id)
            return handle if "/producer/" in frame.f_code.co_filename else None

        def call() -> None:
            sys.settrace(handle)
            op_id = producer.append("s", HI).op_id
            sys.settrace(None)
            ids.append(op_id)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert len(ids) > 50
    assert sorted(raw.decode() for raw in queued) == sorted(ids)


def test_a_spool_is_free_wherever_creating_its_producer_was_interrupted(
    tmp_path: Path,
) -> None:
    spool = tmp_path / "spool.db"
    with Producer(NOWHERE, spool=spool) as producer:
        producer.append("s", HI)
    made: list[Producer] = []
    line, came_to_it = 0, True
    while came_to_it:
        line += 23
        with interrupted_at(line, "/backscroll/s", "/backscroll/w", "/backscroll/c") as it_came:
            made.append(Producer(NOWHERE, spool=spool))
        came_to_it = it_came()
        while made:  # what was interrupted was a finalizer, whose errors Python passes over
            made.pop().close()
        Producer(NOWHERE, spool=spool).close()
    assert line > 100


def close_twice(producer: Producer) -> None:
    producer.append("s", HI)
    producer.close()
    producer.close()


def close_again_after_an_interruption(producer: Producer) -> None:
    producer.append("s", HI)
    for line in range(1, 60, 7):
        with interrupted_at(line, "/producer/"):
            producer.close()
    producer.close()


def call_after_closing(producer: Producer) -> None:
    producer.append("s", HI)
    producer.close()
    with pytest.raises(SpoolUnusableError, match="closed"):
        producer.append("s", HI)
    with pytest.raises(BackscrollError):
        producer.load("s")


def close_beside_calls(producer: Producer) -> None:
    def call() -> None:
        with suppress(BackscrollError):
            while True:
                producer.append("s", HI)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    producer.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    "use", [close_twice, close_again_after_an_interruption, call_after_closing, close_beside_calls]
)
def test_closing_a_producer_with_a_spool_leaves_nobody_waiting(
    tmp_path: Path, use: Callable[[Producer], None]
) -> None:
    path = tmp_path / "spool.db"
    producer = Producer(NOWHERE, spool=path, timeout_seconds=1)
    thread = threading.Thread(target=use, args=(producer,), daemon=True)
    if use is close_again_after_an_interruption:
        use(producer)
    else:
        thread.start()
        thread.join(60)
    assert not thread.is_alive()
    Producer(NOWHERE, spool=path).close()


def test_a_call_that_is_cancelled_when_its_result_comes_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    settle = AsyncBox.settle

    async def use(how: Callable[[AsyncProducer], Any]) -> None:
        async with AsyncProducer(server_url) as producer:
            task = asyncio.ensure_future(how(producer))

            def settle_and_cancel(box: AsyncBox, outcome: Any) -> None:
                settle(box, outcome)
                if not isinstance(outcome, tuple):  # which says that it is queued
                    task.cancel()

            monkeypatch.setattr(AsyncBox, "settle", settle_and_cancel)
            with redis.Redis.from_url(server_url) as client:
                while not client.llen("rq:queue:backscroll"):
                    await asyncio.sleep(0.01)
                (job_id,) = client.lrange("rq:queue:backscroll", 0, -1)
                client.xadd(f"rq:results:{job_id.decode()}", {"type": 1, "return_value": "W10="})
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(use(lambda producer: producer.load("k")))
