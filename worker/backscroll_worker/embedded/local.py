"""`Local` and `AsyncLocal`: the calls of the producers over a store in this process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.calls import Calls
from backscroll.client_chat_history import ChatHistory
from backscroll.contract.answers import Unencoded, receipt_of
from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Operation
from backscroll.contract.results import Receipt
from backscroll.redaction.hook import check_policy
from backscroll.settings import check_queue_name, check_waiting, ready_policy
from backscroll.transport.acks import Ack, check_ack
from backscroll.transport.mailbox import AsyncBox, Box
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.contract.store import Store
from backscroll_worker.embedded.store_thread import Call, closed, open_thread
from backscroll_worker.maintenance.dispatch import maintenance_slices
from backscroll_worker.settings import Settings


class EmbeddedCalls(Calls):
    """What both are made of: a share of the thread that has the store open."""

    def __init__(
        self,
        url: str,
        queue: str | None = None,
        *,
        ack: Ack = "stored",
        timeout_seconds: float = 30.0,
        max_message_bytes: int | None = None,
        redact: Callable[[str], str] | None = None,
        lenient: bool = False,
        keep_edits: bool | None = None,
        ttl_hours: float | None = None,
        retention: str | Path | None = None,
        archive: str | Path | None = None,
        op_ids_hours: float | None = None,
    ) -> None:
        check_ack(ack)
        check_waiting(timeout_seconds, None, None, None)
        settings = Settings.from_environment(os.environ).with_options(
            store=url,
            queue=queue if queue is None else check_queue_name("queue", queue),
            max_message_bytes=_as_text(max_message_bytes),
            keep_edits=keep_edits,
            ttl_hours=_as_text(ttl_hours),
            retention=_as_text(retention),
            archive=_as_text(archive),
            op_ids_hours=_as_text(op_ids_hours),
        )
        policy = ready_policy(settings.redact) if redact is None else check_policy(redact)
        limits = Limits(settings.max_message_bytes)
        super().__init__(settings.queue, limits, policy, timeout_seconds, lenient)
        settings.load_retention()  # fails now rather than in the first cleanup
        # The thread may have a call for a moment longer than its caller: it must not hold this.
        self._slices = partial(_slices, settings)
        self._thread = open_thread(url, keep_edits=settings.keep_edits)
        self.url = self._thread.url
        self._leave = weakref.finalize(self, self._thread.leave)
        self._leave.atexit = False
        if self._thread.options != {"keep_edits": settings.keep_edits}:
            self._leave()
            raise InvalidSettingError(
                f"keep_edits: {self.url} is open in this process with "
                f"keep_edits={not settings.keep_edits}"
            )

    async def _settle(
        self, operation: Operation, ack: Ack | None, message_ids: tuple[str, ...]
    ) -> Receipt:
        if ack is not None:
            check_ack(ack)
        return receipt_of(await self._carry_out(operation), operation, message_ids)

    async def _read(self, operation: Operation) -> Unencoded:
        return Unencoded(await self._carry_out(operation))

    async def _carry_out(self, operation: Operation) -> Any:
        if not self._leave.alive:
            raise closed(self.url)
        self._thread.put(Call(operation, box := self._box(), self._slices))
        return await box.outcome()

    async def _close(self) -> None:
        if self._leave.detach() is not None:
            self._thread.leave(box := self._box())
            await box.outcome()


class Local(ChatHistory, EmbeddedCalls):
    """The calls of a `Producer` over the store at `url`, which this process alone writes.

    For any number of threads; all who open the same store in this process share it. It needs no
    server and no worker: each write is durable when its call returns, as with "stored", whatever
    `ack` says. So writes also raise what the queue hears of only with "stored".

    `url` is sqlite:///PATH or jsonl:///DIRECTORY, as of a worker, which may take the store over
    later. `queue` is the name of the queue that it would then be for: it counts in `dedup_key`s.
    `timeout_seconds` bounds how long a turn waits for another one. `max_message_bytes`, `redact`
    and `lenient` are as those of a `Producer`; `keep_edits`, `ttl_hours`, `retention` (a file),
    `archive` (a directory) and `op_ids_hours` are what a worker has in its settings, and come from
    the environment where they are not given. Nothing is cleaned up or compacted by itself.

    Raises `InvalidSettingError` for what is not valid, also for a store that this process has open
    with other `keep_edits`; `StoreUnavailableError` while another process has the store, or when it
    cannot be opened now; `StoreUnusableError` for what is not a store, or from a newer version.

    A call raises `InvalidInputError`, `ConflictError` and `OperationRefusedError` as those of a
    `Producer`, and the store's errors: `StoreUnavailableError` when it cannot be used now (the disk
    is full); then `send(error.operation)` sends the write again. `StoreUnusableError` when it will
    not work as it is, was closed, or was opened before a fork.
    """

    _box = Box


class AsyncLocal(AsyncChatHistory, EmbeddedCalls):
    """As `Local`, for asyncio: its calls are awaited, and do not block the event loop.

    Any number of event loops may use it, one after the other or at once in threads. What is asked
    for meanwhile is stored together. To open it blocks, as long as the store takes to be opened.
    """

    _box = AsyncBox


def _slices(settings: Settings, store: Store, operation: Operation) -> Slices[Any]:
    return maintenance_slices(store, settings, operation, None)


def _as_text(value: object) -> str | None:
    """An argument as the environment would say it, to be read and checked like that."""
    return None if value is None else str(value)
