"""`AsyncProducer`: the same calls for asyncio adapters (discord.py, Slack Bolt and the like).

Calls that are made while another is on its way to the server travel together in the next round
trip, in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from redis.asyncio.retry import Retry

from producer.answers import (
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    RestoreReport,
    answered_cleanup,
    answered_compact,
    answered_erasure,
    answered_hits,
    answered_messages,
    answered_page,
    answered_receipt,
    answered_restore,
    answered_session,
)
from producer.batches import BatchSender
from producer.connection import (
    RETRYABLE,
    backoff,
    connect_async,
    is_retryable,
    server_errors,
)
from producer.courier import Courier
from producer.enqueue import (
    ASK_AGAIN_SECONDS,
    SENT_AGAIN,
    Ack,
    Enqueued,
    JobWriter,
    Spooled,
    best_result,
    check_ack,
    job_key,
    no_word,
    not_yet_sent,
    parse_result,
    result_key,
    still_spooled,
)
from producer.messages import (
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from producer.operations import Operation, Read, Write
from producer.requests import UNSET, Receipt, Requests, Unset
from producer.search import SearchFields, SearchFilter, SearchPage
from producer.settings import ProducerSettings, check_option, check_waiting
from producer.spool import DEFAULT_MAX_BYTES, Spool


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
        spool: str | Path | None = None,
        spool_max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        check_option("max_connections", max_connections, least=1, most=1_000_000)
        check_waiting(timeout_seconds, retries, spool, spool_max_bytes)
        settings = ProducerSettings.resolve(
            url, queue, max_queue_depth, max_message_bytes, os.environ
        )
        self.url = settings.url
        self.queue = settings.queue
        self._ack = check_ack(ack)
        self._timeout_seconds = timeout_seconds
        self._requests = Requests(settings.limits, settings.queue)
        self._writer = JobWriter(settings.queue, settings.max_queue_depth, timeout_seconds)
        self._retry = Retry(backoff(), retries, RETRYABLE)
        self._redis = connect_async(settings.url, max_connections)
        self._courier: Courier | None = None
        if spool is not None:
            held = Spool(Path(spool), spool_max_bytes)
            self._courier = Courier(settings.url, held, self._writer)
            self._retry = Retry(backoff(), 0, RETRYABLE)  # the courier tries again
        self._sender = BatchSender(
            settings.url, self._redis, self._writer, self._retry, self._courier
        )

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
        await self._sender.close()
        if self._courier is not None:
            await asyncio.to_thread(self._courier.close)
        await self._redis.aclose()

    @property
    def spooled(self) -> int:
        """See `Producer.spooled`."""
        return 0 if self._courier is None else self._courier.count

    async def append(
        self,
        key: str,
        *messages: ChatMessage,
        dedup_key: str | None = None,
        session: SessionAttributes | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """See `Producer.append`."""
        operation = self._requests.append(key, messages, dedup_key, session)
        return await self._write(operation, ack, operation.message_ids)

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
        self,
        key: str,
        limit: int | None = None,
        before: str | None = None,
        *,
        around: str | None = None,
        include_edits: bool = False,
    ) -> list[ChatMessage]:
        """See `Producer.load`."""
        operation = self._requests.load(key, limit, before, include_edits, around)
        return answered_messages(await self._read(operation))

    async def session(self, key: str) -> SessionInfo | None:
        """See `Producer.session`."""
        return answered_session(await self._read(self._requests.session(key)))

    async def exists(self, key: str) -> bool:
        """See `Producer.exists`."""
        return await self.session(key) is not None

    async def sessions(
        self,
        where: SessionFilter | None = None,
        *,
        agent: str | None = None,
        channel: str | None = None,
        room: str | None = None,
        sender: str | None = None,
        state: State | None = None,
        pinned: bool | None = None,
        stuck_seconds: float | None = None,
        name: str | None = None,
        active_since: datetime | None = None,
        active_until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SessionPage:
        """See `Producer.sessions`."""
        given = {
            "agent": agent, "channel": channel, "room": room, "sender": sender, "state": state,
            "pinned": pinned, "stuck_seconds": stuck_seconds, "name": name,
            "active_since": active_since, "active_until": active_until,
        }  # fmt: skip
        return answered_page(await self._read(self._requests.sessions(given, limit, cursor, where)))

    async def search(
        self,
        query: str,
        where: SearchFilter | None = None,
        *,
        limit: int = 20,
        by_session: bool = False,
        cursor: str | None = None,
        **given: Unpack[SearchFields],
    ) -> SearchPage:
        """See `Producer.search`."""
        operation = self._requests.search(query, where, limit, by_session, cursor, given)
        return answered_hits(await self._read(operation))

    async def cleanup(
        self, ttl_hours: float | None = None, *, dry_run: bool = False
    ) -> CleanupReport:
        """See `Producer.cleanup`."""
        return answered_cleanup(await self._read(self._requests.cleanup(ttl_hours, dry_run)))

    async def restore(
        self,
        key: str,
        *,
        into: str | None = None,
        file: str | None = None,
        pin: bool = False,
    ) -> RestoreReport:
        """See `Producer.restore`."""
        return answered_restore(await self._read(self._requests.restore(key, into, file, pin)))

    async def compact(self) -> CompactReport:
        """See `Producer.compact`."""
        return answered_compact(await self._read(self._requests.compact()))

    async def erase(
        self, *, key: str | None = None, sender: str | None = None, room: str | None = None
    ) -> ErasureReceipt:
        """See `Producer.erase`."""
        return answered_erasure(await self._read(self._requests.erase(key, sender, room)))

    async def send(self, operation: Operation, ack: Ack | None = None) -> Receipt:
        """See `Producer.send`."""
        return await self._write(self._requests.again(operation), ack, is_again=True)

    async def _write(
        self,
        operation: Operation,
        ack: Ack | None,
        message_ids: tuple[str, ...] = (),
        *,
        is_again: bool = False,
    ) -> Receipt:
        ack = self._ack if ack is None else check_ack(ack)
        enqueued = await self._sender.enqueue(operation, ack)
        if isinstance(enqueued, Spooled):
            if ack == "queued":
                return Receipt(operation.op_id, message_ids, spooled=True)
            enqueued = await self._send_after(enqueued, operation, ack)
        if is_again:
            enqueued = SENT_AGAIN
        if ack == "stored" and isinstance(operation, Write):
            value = await self._await_result(operation, ack, enqueued.last_result)
            return answered_receipt(value, operation.op_id, message_ids, enqueued.was_known)
        return Receipt(operation.op_id, message_ids)

    async def _read(self, operation: Operation) -> Any:
        if self._courier is not None and self._courier.count:  # the answer would lack own writes
            await asyncio.to_thread(self._courier.wait_empty, self._timeout_seconds)
        enqueued = await self._sender.enqueue(operation, "queued")
        if isinstance(enqueued, Spooled):
            raise not_yet_sent(self.spooled)
        value = await self._await_result(operation, "queued", enqueued.last_result)
        if isinstance(operation, Read):  # an answer may be large, and nobody will ask for it again
            with server_errors(self.url):
                await self._redis.unlink(result_key(operation))
        return value

    async def _send_after(self, spooled: Spooled, operation: Operation, ack: Ack) -> Enqueued:
        """Wait until the spool is sent as far as `operation`, then ask what became of it."""
        courier = self._courier
        if courier is not None and await asyncio.to_thread(
            courier.wait_sent, spooled.number, self._timeout_seconds
        ):
            enqueued = await self._sender.enqueue(operation, ack)
            if isinstance(enqueued, Enqueued):
                return SENT_AGAIN
        raise still_spooled(operation, self.spooled)

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
                    await self._sender.evaluate(self._writer.script_call([job]), fsync=False)
            return None

        with server_errors(self.url, operation):
            fields = await self._retry.call_with_retry(attempt, _ignore, is_retryable)
        if fields is None:
            raise no_word(operation, self._timeout_seconds, self.queue)
        return parse_result(fields)


async def _ignore(_error: Exception) -> None:
    """`Retry` reports every failure to somebody; the last one is raised anyway."""
