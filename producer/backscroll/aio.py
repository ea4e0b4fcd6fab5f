"""`AsyncProducer`: what an adapter calls to have a conversation remembered, and to read it back.

On asyncio (discord.py, Slack Bolt and the like), calls that are made while another is on its way to
the server travel together in the next round trip, in the order in which they were made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from backscroll.aio_lifecycle import AsyncLifecycle
from backscroll.aio_messages import AsyncMessages
from backscroll.aio_turns import AsyncTurn, WhileRunning
from backscroll.contract.answers import (
    answered_cleanup,
    answered_compact,
    answered_erasure,
    answered_restore,
)
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
)
from backscroll.contract.operations import Operation
from backscroll.contract.results import (
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Receipt,
    RestoreReport,
)
from backscroll.settings import ProducerSettings, check_option, check_waiting
from backscroll.spool.queue import DEFAULT_MAX_BYTES
from backscroll.transport.acks import Ack
from backscroll.transport.mailbox import AsyncBox


class AsyncProducer(AsyncMessages, AsyncLifecycle):
    """Enqueues what was said and reads what is stored; one for all of a process's threads.

    On asyncio, any number of event loops may use it, one after the other (`asyncio.run`) or at once
    in threads, and any may close it. However many calls wait, writes have one connection and the
    waiting for results has another; `max_connections` is accepted, and has no effect any more.

    `url` is redis://, rediss:// or unix://; the default is BACKSCROLL_REDIS_URL or REDIS_URL.
    `ack` is what a write waits for unless its call says otherwise: "queued" (the server has it),
    "fsynced" (the server's disk has it), "stored" (the worker committed it).
    `timeout_seconds` bounds how long a read or a "stored" waits for the worker.
    `retries` is how often a call is sent again after a connection error; always with the same op
    id, so that it is never applied twice.
    `spool` names a file on this host's disk, one for each producer. While the server is
    unreachable, writes are kept there, up to `spool_max_bytes`, also over this process's death.
    They are sent in order when the server is back, before anything later; reads wait for that.
    `redact` takes a text and returns what is sent and spooled instead, for each text in a message,
    also in its `extra`, and for a session's name: `Redact()`, or a function of yours. The default
    is `Redact()` where BACKSCROLL_REDACT is 1, else nothing.

    Raises `InvalidSettingError` when an argument or a variable of the environment is not valid,
    `InvalidInputError` for an unknown `ack`, `SpoolUnusableError` or `SpoolDiskError` when the
    spool cannot be opened or is in use. No server is needed yet.

    A call that fails raises a `BackscrollError`. Its `retryable` says whether the same call may
    succeed later; its `operation`, if it has one, is for `send`, which cannot apply it twice.
    "As every call" in the calls' descriptions means any of these:

    - `InvalidInputError`: an argument is not valid, or `redact` failed; nothing was enqueued.
    - `ServerUnavailableError`: the server does not answer or accepts nothing now, after `retries`.
    - `AuthenticationFailedError`: the server refuses the login.
    - `ServerRefusedError`: it refuses this call and would again: no permission, or too large.
    - `QueueFullError`: `max_queue_depth` operations wait already.
    - `NotConfirmedError`: enqueued, but what was waited for did not come in time: the server's
      fsync, or the worker's answer within `timeout_seconds`. A write may still be applied.
    - `ConflictError`: the condition of a write did not hold; see `append` and `turn`.
    - `OperationRefusedError`: the worker cannot carry it out, and says why. Answers have 32 MiB at
      most, so ask for less where there is more.
    - `SpoolFullError`, `SpoolDiskError`, `SpoolUnusableError`: the spool is full, its disk fails,
      or its file is damaged, replaced or a parent process's. With a spool, writes go there when
      the server is unavailable, refuses the login or is full, after one retry; reads raise
      `ServerUnavailableError` if it is not empty within `timeout_seconds`.
    """

    _box = AsyncBox

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
        max_connections: int = 50,  # asyncio
        spool: str | Path | None = None,
        spool_max_bytes: int = DEFAULT_MAX_BYTES,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        check_option("max_connections", max_connections, least=1, most=1_000_000)  # asyncio
        check_waiting(timeout_seconds, retries, spool, spool_max_bytes)
        settings = ProducerSettings.resolve(
            url, queue, max_queue_depth, max_message_bytes, redact, os.environ
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
        """Send what calls are waiting for, and disconnect; no call may follow.

        What is in the spool stays there for the next producer on it. Raises nothing.
        """
        await self._close()

    def turn(
        self,
        key: str,
        *messages: ChatMessage,
        session: SessionAttributes | None = None,
        running: WhileRunning = "wait",
        lease_seconds: float = 120.0,
        limit: int = 50,
        every_seconds: float = 0.5,
    ) -> AsyncTurn:
        """A turn of a session, to be used as a context manager.

        It begins by appending `messages`, of which there may be none, and marking the session as
        running, and has the `limit` newest messages, these included, in `turn.history`, as `load`
        gives them with `legal` and `active`. `turn.stream` shows a reply while it grows, written at
        most every `every_seconds`. At its end the reply is complete and the session idle; where the
        block raises, exactly what the turn appended is removed and the session is in the state
        "error". `session` has attributes, as `append` takes them.

        A platform may deliver a message again. Where the messages have platform ids, and a turn
        with them ended before, `turn.is_repeated` is true, and there is nothing to answer. If that
        turn failed, or its process died, they are answered now, and are in the session once.

        While another turn runs in the session, this one does as `running` says: "wait" until it
        ends (for `timeout_seconds` at most), "refuse" (`ConflictError`), or "supersede" it: what
        the other still sends changes nothing, and its end raises `ConflictError`. What was said
        already supersedes nothing, and waits. A turn whose process died frees the session when its
        lease expires, `lease_seconds` after its last write.

        Raises `InvalidInputError` for an argument that is not valid; the block's beginning and end
        raise `ConflictError` as said, and the rest as every call.
        """
        return AsyncTurn(self, key, messages, session, running, lease_seconds, limit, every_seconds)

    async def cleanup(
        self, ttl_hours: float | None = None, *, dry_run: bool = False
    ) -> CleanupReport:
        """Have the worker delete sessions idle for longer than `ttl_hours`, and wait for it.

        Without it, the worker's retention rules decide. Raises `NotConfirmedError` when it takes
        longer than `timeout_seconds`, and goes on; the rest as every call.
        """
        return answered_cleanup(await self._read(self._requests.cleanup(ttl_hours, dry_run)))

    async def restore(
        self,
        key: str,
        *,
        into: str | None = None,
        file: str | None = None,
        pin: bool = False,
    ) -> RestoreReport:
        """Have the worker bring back what cleanup took of a session, and wait for it.

        With its ids, times and attributes, before what the session has by now; what the store has
        already stays as it is. `into` is another key for it, `file` the only file of the archive
        to take it from. Its last activity is the old one, so without `pin` the next cleanup takes
        it again.

        Raises `OperationRefusedError` when the archive does not have it; the rest as `cleanup`.
        """
        return answered_restore(await self._read(self._requests.restore(key, into, file, pin)))

    async def compact(self) -> CompactReport:
        """Have the worker compact the store, and wait for it. Raises as `cleanup`."""
        return answered_compact(await self._read(self._requests.compact()))

    async def erase(
        self,
        *,
        key: str | None = None,
        sender: str | None = None,
        room: str | None = None,
        author: str | None = None,
    ) -> ErasureReceipt:
        """Have every trace of a session, a sender, a room or an author removed, and wait for it.

        Of an author the messages go, in every session; everybody else's stay. All that was asked
        for before goes with it, even what arrives later: a sender's or a room's sessions are those
        that are known as theirs by now. What is said afterwards is stored.

        Returns a receipt that names nobody, to be kept as proof. Raises `InvalidInputError` unless
        exactly one of the four is given; the rest as `cleanup`.
        """
        return answered_erasure(await self._read(self._requests.erase(key, sender, room, author)))

    async def send(self, operation: Operation, ack: Ack | None = None) -> Receipt:
        """Send an operation that an error carried, again and as it was: it is applied once.

        Raises `InvalidInputError` for anything else; the rest as every call.
        """
        return await self._write(self._requests.again(operation), ack)
