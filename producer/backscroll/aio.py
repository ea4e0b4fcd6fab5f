"""`AsyncProducer`: the same calls for asyncio adapters (discord.py, Slack Bolt and the like).

Calls that are made while another is on its way to the server travel together in the next round
trip, in the order in which they were made.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from backscroll.aio_calls import AsyncCalls
from backscroll.contract.filters import SearchFields, SearchFilter, SearchPage
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from backscroll.contract.operations import Operation
from backscroll.contract.requests import UNSET, Receipt, Unset
from backscroll.contract.results import (
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
    answered_restore,
    answered_session,
)
from backscroll.settings import ProducerSettings, check_option, check_waiting
from backscroll.spool.queue import DEFAULT_MAX_BYTES
from backscroll.transport.acks import Ack


class AsyncProducer(AsyncCalls):
    """The asyncio twin of `Producer`: same arguments, same calls, awaited.

    Any number of event loops may use it, one after the other (`asyncio.run`) or at once in threads,
    and any may close it. However many calls wait, writes have one connection and the waiting for
    results has another; `max_connections` is accepted, and has no effect any more.
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
        super().__init__(settings, ack, timeout_seconds, retries, spool, spool_max_bytes)

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
        await self._close()

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
