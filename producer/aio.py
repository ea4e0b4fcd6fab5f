"""`AsyncProducer`: the same calls for asyncio adapters (discord.py, Slack Bolt and the like).

Calls that are made while another is on its way to the server travel together in the next round
trip, in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry

from producer.answers import (
    CleanupReport,
    CompactReport,
    answered_cleanup,
    answered_compact,
    answered_hits,
    answered_messages,
    answered_page,
    answered_receipt,
    answered_session,
)
from producer.connection import (
    RETRYABLE,
    SOCKET_TIMEOUT_SECONDS,
    backoff,
    connect_async,
    explain,
    is_retryable,
    server_errors,
)
from producer.enqueue import (
    ASK_AGAIN_SECONDS,
    ENQUEUE,
    SENT_AGAIN,
    Ack,
    Enqueued,
    Job,
    JobWriter,
    best_result,
    check_ack,
    check_fsynced,
    job_key,
    no_word,
    parse_result,
    result_key,
)
from producer.errors import BackscrollError
from producer.messages import ChatMessage, SearchFilter, SearchHit, SessionInfo, SessionPage, State
from producer.operations import Operation, Read, Write
from producer.requests import UNSET, Receipt, Requests, Unset
from producer.settings import ProducerSettings

MAX_BATCH_JOBS: Final = 500
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024


@dataclass(eq=False, slots=True)
class _Pending:
    """An operation on its way, and the future its caller waits on."""

    operation: Operation
    ack: Ack
    job: Job
    done: asyncio.Future[Enqueued]


class AsyncProducer:
    """The asyncio twin of `Producer`: same arguments, same calls, awaited.

    Use it on one event loop. `max_connections` bounds the connections its callers share; a call
    that waits for the worker holds one while it waits.
    """

    def __init__(
        self,
        url: str | None = None,
        queue: str | None = None,
        *,
        ack: Ack = "queued",
        timeout_seconds: float = 30.0,
        retries: int = 5,
        max_queue_depth: int | None = None,
        max_message_bytes: int | None = None,
        max_connections: int = 50,
    ) -> None:
        settings = ProducerSettings.resolve(
            url, queue, max_queue_depth, max_message_bytes, os.environ
        )
        self.url = settings.url
        self.queue = settings.queue
        self._ack = check_ack(ack)
        self._timeout_seconds = timeout_seconds
        self._requests = Requests(settings.limits)
        self._writer = JobWriter(settings.queue, settings.max_queue_depth)
        self._retry = Retry(backoff(), retries, RETRYABLE)
        self._redis = connect_async(settings.url, max_connections)
        self._script_sha: str = self._redis.register_script(ENQUEUE).sha
        self._waiting: deque[_Pending] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is still waiting, then give the connections back."""
        if self._sender is not None:
            await asyncio.shield(self._sender)  # who gives up waiting must not end it for all
        await self._redis.aclose()

    async def append(
        self, key: str, *messages: ChatMessage, dedup_key: str | None = None, ack: Ack | None = None
    ) -> Receipt:
        """See `Producer.append`."""
        operation = self._requests.append(key, messages, dedup_key)
        ids = tuple(message.message_id or "" for message in operation.messages)
        return await self._write(operation, ack, ids)

    async def rollback(
        self, key: str, message_id: str | None = None, *, ack: Ack | None = None
    ) -> Receipt:
        """See `Producer.rollback`."""
        return await self._write(self._requests.rollback(key, message_id), ack)

    async def replace(
        self,
        key: str,
        message: ChatMessage,
        message_id: str | None = None,
        *,
        ack: Ack | None = None,
    ) -> Receipt:
        """See `Producer.replace`."""
        return await self._write(self._requests.replace(key, message, message_id), ack)

    async def clear(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """See `Producer.clear`."""
        return await self._write(self._requests.clear(key), ack)

    async def delete(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """See `Producer.delete`."""
        return await self._write(self._requests.delete(key), ack)

    async def describe(
        self,
        key: str,
        *,
        name: str | Unset | None = UNSET,
        agent: str | Unset | None = UNSET,
        channel: str | Unset | None = UNSET,
        room: str | Unset | None = UNSET,
        sender: str | Unset | None = UNSET,
        state: State | Unset = UNSET,
        turn_id: str | Unset | None = UNSET,
        pinned: bool | Unset = UNSET,
        ack: Ack | None = None,
    ) -> Receipt:
        """See `Producer.describe`."""
        attributes = {
            "name": name, "agent": agent, "channel": channel, "room": room, "sender": sender,
            "state": state, "turn_id": turn_id, "pinned": pinned,
        }  # fmt: skip
        return await self._write(self._requests.describe(key, attributes), ack)

    async def rename_agent(self, old: str, new: str | None, *, ack: Ack | None = None) -> Receipt:
        """See `Producer.rename_agent`."""
        return await self._write(self._requests.rename_agent(old, new), ack)

    async def load(
        self, key: str, limit: int | None = None, before: str | None = None
    ) -> list[ChatMessage]:
        """See `Producer.load`."""
        return answered_messages(await self._read(self._requests.load(key, limit, before)))

    async def session(self, key: str) -> SessionInfo | None:
        """See `Producer.session`."""
        return answered_session(await self._read(self._requests.session(key)))

    async def exists(self, key: str) -> bool:
        """See `Producer.exists`."""
        return await self.session(key) is not None

    async def sessions(
        self,
        *,
        agent: str | None = None,
        channel: str | None = None,
        room: str | None = None,
        sender: str | None = None,
        state: State | None = None,
        pinned: bool | None = None,
        stuck_seconds: float | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SessionPage:
        """See `Producer.sessions`."""
        where = {
            "agent": agent, "channel": channel, "room": room, "sender": sender, "state": state,
            "pinned": pinned, "stuck_seconds": stuck_seconds,
        }  # fmt: skip
        return answered_page(await self._read(self._requests.sessions(where, limit, cursor)))

    async def search(
        self, query: str, where: SearchFilter | None = None, *, limit: int = 20
    ) -> list[SearchHit]:
        """See `Producer.search`."""
        operation = self._requests.search(query, where or SearchFilter(), limit)
        return answered_hits(await self._read(operation))

    async def cleanup(
        self, ttl_hours: float | None = None, *, dry_run: bool = False
    ) -> CleanupReport:
        """See `Producer.cleanup`."""
        return answered_cleanup(await self._read(self._requests.cleanup(ttl_hours, dry_run)))

    async def compact(self) -> CompactReport:
        """See `Producer.compact`."""
        return answered_compact(await self._read(self._requests.compact()))

    async def send(self, operation: Operation, ack: Ack | None = None) -> Receipt:
        """See `Producer.send`."""
        return await self._write(operation, ack, is_again=True)

    async def _write(
        self,
        operation: Operation,
        ack: Ack | None,
        message_ids: tuple[str, ...] = (),
        *,
        is_again: bool = False,
    ) -> Receipt:
        ack = self._ack if ack is None else check_ack(ack)
        enqueued = await self._enqueue(operation, ack)
        if is_again:
            enqueued = SENT_AGAIN
        if ack == "stored" and isinstance(operation, Write):
            value = await self._await_result(operation, ack, enqueued.last_result)
            return answered_receipt(value, operation.op_id, message_ids, enqueued.was_known)
        return Receipt(operation.op_id, message_ids)

    async def _read(self, operation: Operation) -> Any:
        enqueued = await self._enqueue(operation, "queued")
        value = await self._await_result(operation, "queued", enqueued.last_result)
        if isinstance(operation, Read):  # an answer may be large, and nobody will ask for it again
            with server_errors(self.url):
                await self._redis.unlink(result_key(operation))
        return value

    async def _enqueue(self, operation: Operation, ack: Ack) -> Enqueued:
        job = self._writer.job(operation, ack)
        done: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Pending(operation, ack, job, done))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_waiting())
        # Not the batch: a caller that gives up takes only its own future with it.
        return await done

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
        call = self._writer.script_call(item.job for item in batch)
        fsync = any(item.ack == "fsynced" for item in batch)

        failures = 0

        async def attempt() -> tuple[list[Any], Any]:
            return await self._evaluate(call, fsync=fsync)

        async def count(_error: Exception) -> None:
            nonlocal failures
            failures += 1

        try:
            replies, fsynced = await self._retry.call_with_retry(attempt, count, is_retryable)
        except Exception as error:
            for item in batch:
                known = isinstance(error, redis.RedisError)
                _fail(item, explain(error, self.url, item.operation) if known else error)
            return
        for item, reply in zip(batch, replies, strict=True):
            try:
                enqueued = self._writer.parse_reply(reply)
                if item.ack == "fsynced":
                    check_fsynced(fsynced, item.operation)
            except BackscrollError as error:
                _fail(item, error)
            else:
                if not item.done.done():
                    item.done.set_result(SENT_AGAIN if failures else enqueued)

    async def _evaluate(self, call: list[Any], *, fsync: bool) -> tuple[list[Any], Any]:
        """One round trip: the script's reply, and WAITAOF's (or its error) if `fsync`."""
        while True:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.evalsha(self._script_sha, *call)
                if fsync:
                    pipeline.execute_command("WAITAOF", 1, 0, int(SOCKET_TIMEOUT_SECONDS * 500))
                enqueued, *fsynced = await pipeline.execute(raise_on_error=False)
            if isinstance(enqueued, redis.exceptions.NoScriptError):
                await self._redis.script_load(ENQUEUE)
            elif isinstance(enqueued, Exception):
                raise enqueued
            else:
                return enqueued, fsynced[0] if fsync else None

    async def _await_result(self, operation: Operation, ack: Ack, after: str) -> Any:
        deadline = time.monotonic() + self._timeout_seconds
        stream = result_key(operation)

        async def attempt() -> Any:
            while (left := deadline - time.monotonic()) > 0:
                block_ms = max(1, int(min(left, ASK_AGAIN_SECONDS) * 1000))
                reply: Any = await self._redis.xread({stream: after}, block=block_ms)
                if reply:
                    return best_result(reply)
                if not await self._redis.exists(job_key(operation)):
                    # Done before anybody wanted its result; the store knows what came of it.
                    job = self._writer.job(operation, ack)
                    await self._evaluate(self._writer.script_call([job]), fsync=False)
            return None

        with server_errors(self.url, operation):
            fields = await self._retry.call_with_retry(attempt, _ignore, is_retryable)
        if fields is None:
            raise no_word(operation, self._timeout_seconds, self.queue)
        return parse_result(fields)


async def _ignore(_error: Exception) -> None:
    """`Retry` reports every failure to somebody; the last one is raised anyway."""


def _fail(item: _Pending, error: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(error)
