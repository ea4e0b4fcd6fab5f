"""Sends the operations of an event loop's tasks together.

Calls that are made while a batch is on its way to the server travel in the next one, in the order
in which they were made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry

from producer.connection import SOCKET_TIMEOUT_SECONDS, explain, is_retryable
from producer.courier import MAX_BATCH_BYTES, MAX_BATCH_JOBS, Courier
from producer.enqueue import (
    ENQUEUE,
    SENT_AGAIN,
    Ack,
    Enqueued,
    Job,
    JobWriter,
    Spooled,
    check_fsynced,
    not_yet_sent,
)
from producer.errors import BackscrollError
from producer.operations import Operation, Write


@dataclass(eq=False, slots=True)
class _Pending:
    """An operation on its way, and the future its caller waits on."""

    operation: Operation
    ack: Ack
    job: Job
    done: asyncio.Future[Enqueued | Spooled]

    def succeed(self, result: Enqueued | Spooled) -> None:
        """Tell the caller, unless it has given up or been told already."""
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        """As `succeed`, with an error."""
        if not self.done.done():
            self.done.set_exception(error)


class BatchSender:
    """Puts operations onto the queue, or into the spool while the server is away."""

    def __init__(
        self,
        url: str,
        client: redis.asyncio.Redis,
        writer: JobWriter,
        retry: Retry,
        courier: Courier | None,
    ) -> None:
        self._url = url
        self._redis = client
        self._writer = writer
        self._retry = retry
        self._courier = courier
        self._waiting: deque[_Pending] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Send what is still waiting."""
        if self._sender is not None:
            await asyncio.shield(self._sender)  # who gives up waiting must not end it for all

    async def enqueue(self, operation: Operation, ack: Ack) -> Enqueued | Spooled:
        """Send `operation` with the next batch."""
        job = self._writer.job(operation, ack)
        done: asyncio.Future[Enqueued | Spooled] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Pending(operation, ack, job, done))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_waiting())
        # Not the batch: a caller that gives up takes only its own future with it.
        return await done

    async def evaluate(self, call: list[Any], *, fsync: bool) -> tuple[list[Any], Any]:
        """One round trip: the script's reply, and WAITAOF's (or its error) if `fsync`."""
        for command in (ENQUEUE.call(*call), ENQUEUE.told(*call)):
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.execute_command(*command)
                if fsync:
                    pipeline.execute_command("WAITAOF", 1, 0, int(SOCKET_TIMEOUT_SECONDS * 500))
                enqueued, *fsynced = await pipeline.execute(raise_on_error=False)
            if not isinstance(enqueued, redis.exceptions.NoScriptError):
                break
        if isinstance(enqueued, Exception):
            raise enqueued
        return enqueued, fsynced[0] if fsync else None

    async def _send_waiting(self) -> None:
        batch: list[_Pending] = []
        try:
            while self._waiting:
                batch = self._next_batch()
                await self._send_batch(batch)
        except BaseException:  # the loop is being closed: nobody may wait for ever
            for item in (*batch, *self._waiting):
                item.done.cancel()
            self._waiting.clear()
            raise
        finally:
            self._sender = None

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size_bytes = 0
        while self._waiting and len(batch) < MAX_BATCH_JOBS and size_bytes < MAX_BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size_bytes += len(batch[-1].job[-1])
        return batch

    async def _send_batch(self, batch: list[_Pending]) -> None:
        if self._courier is not None and self._courier.count:
            await self._spool(self._courier, batch, not_yet_sent(self._courier.count))
            return
        call = self._writer.script_call(item.job for item in batch)
        fsync = any(item.ack == "fsynced" for item in batch)
        failures = 0

        async def attempt() -> tuple[list[Any], Any]:
            return await self.evaluate(call, fsync=fsync)

        async def count(_error: Exception) -> None:
            nonlocal failures
            failures += 1

        try:
            replies, fsynced = await self._retry.call_with_retry(attempt, count, is_retryable)
        except Exception as error:
            if self._courier is not None and is_retryable(error):
                await self._spool(self._courier, batch, explain(error, self._url))
                return
            for item in batch:
                known = isinstance(error, redis.RedisError)
                item.fail(explain(error, self._url, item.operation) if known else error)
            return
        for item, reply in zip(batch, replies, strict=True):
            self._settle(item, reply, fsynced, was_sent_again=failures > 0)

    def _settle(
        self, item: _Pending, reply: tuple[int, bytes], fsynced: Any, *, was_sent_again: bool
    ) -> None:
        try:
            enqueued = self._writer.parse_reply(reply)
            if item.ack == "fsynced":
                check_fsynced(fsynced, item.operation)
        except BackscrollError as error:
            item.fail(error)
        else:
            item.succeed(SENT_AGAIN if was_sent_again else enqueued)

    async def _spool(self, courier: Courier, batch: list[_Pending], why: Exception) -> None:
        """Keep the writes of the batch for later; what cannot wait there fails."""
        writes = [item for item in batch if isinstance(item.operation, Write)]
        try:
            last = await asyncio.to_thread(courier.take, [item.job for item in writes])
        except BackscrollError as error:
            why, writes = error, []
            last = 0
        for item in writes:
            item.succeed(Spooled(last))
        for item in batch:
            item.fail(why)
