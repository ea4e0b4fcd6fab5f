"""Producers on the store's host: what they write goes through the queue, what they read does not.

A read waits until the producer's own writes are stored, and is answered from the store's files,
beside the worker. Others' writes are seen once the worker has committed them.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from threading import Thread
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from backscroll.aio import AsyncProducer
from backscroll.calls import QueueCalls
from backscroll.client import Producer
from backscroll.contract.answers import Unencoded
from backscroll.contract.errors import (
    InvalidSettingError,
    NotConfirmedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.contract.operations import Operation, Read
from backscroll.contract.results import Receipt
from backscroll.transport.acks import Ack
from backscroll.transport.connection import connect, explain
from backscroll.transport.mailbox import Mailbox
from backscroll.transport.rq_protocol import own_key
from backscroll_worker.embedded.store_thread import Call, StoreThread, open_thread
from backscroll_worker.settings import Settings
from backscroll_worker.stores import store_at

log = logging.getLogger("backscroll.producer")


class LocalReadCalls(QueueCalls):
    """What both are made of: the way over the queue for writes, and the store for reads."""

    def __init__(self, *given: Any, local_reads: str | bool = True, **named: Any) -> None:
        if local_reads is not True:
            if not isinstance(local_reads, str):
                raise InvalidSettingError("local_reads: must be True or the URL of a store")
            store_at(local_reads)  # raises for what is not one
        super().__init__(*given, **named)
        self._local_reads = local_reads
        self._readers: dict[int, tuple[StoreThread, Any]] = {}
        self._unsettled: dict[str, Operation] = {}

    async def _settle(
        self, operation: Operation, ack: Ack | None, message_ids: tuple[str, ...]
    ) -> Receipt:
        earlier = list(self._unsettled)
        try:
            receipt = await super()._settle(operation, ack, message_ids)
        except BaseException as error:
            if isinstance(error, NotConfirmedError) or not isinstance(error, Exception):
                self._unsettled[operation.op_id] = operation  # it may be on its way
            raise
        if (self._ack if ack is None else ack) != "stored":
            self._unsettled[operation.op_id] = operation
        if not operation.was_spooled:  # or its result may have been there long before these
            for op_id in earlier:  # which are stored before this one: the queue keeps its order
                self._unsettled.pop(op_id, None)
        return receipt

    async def _read(self, operation: Operation) -> Any:
        if not isinstance(operation, Read):
            return await super()._read(operation)
        if self.spooled:
            await self._wait_until_all_is_sent()
        deadline = time.monotonic() + self._timeout_seconds
        for op_id, written in list(self._unsettled.items()):
            await self._result(written, "0", deadline)  # whatever it is
            self._unsettled.pop(op_id, None)
        reader = await self._reader()
        reader.put(Call(operation, box := self._box()))
        try:
            return Unencoded(await box.outcome())
        except StoreUnavailableError:  # another store may have come to its place
            self._leave(reader)
            raise

    async def _close(self) -> None:
        await super()._close()
        for reader, _ in list(self._readers.values()):
            self._leave(reader)

    async def _reader(self) -> StoreThread:
        """This process's thread that reads the store."""
        process = os.getpid()
        if process not in self._readers:
            Thread(target=self._open, args=(box := self._box(),), daemon=True).start()
            opened = await box.outcome()
            leave = weakref.finalize(self, opened.leave)
            leave.atexit = False
            if self._readers.setdefault(process, (opened, leave))[0] is not opened:
                leave()
        return self._readers[process][0]

    def _leave(self, reader: StoreThread) -> None:
        for process, (thread, leave) in list(self._readers.items()):
            if thread is reader:
                del self._readers[process]
                leave()

    def _open(self, box: Mailbox) -> None:
        try:
            box.put(self._opened())
        except Exception as error:
            box.put(error)

    def _opened(self) -> StoreThread:
        """A thread that reads the queue's store; it may take as long as the server does."""
        known_id, known_url = self._known_store()
        url = self._local_reads
        if not isinstance(url, str):
            url = known_url or Settings.from_environment().store
        try:
            reader = open_thread(url, read_only=True)
        except (StoreUnavailableError, StoreUnusableError) as error:
            raise type(error)(f"local_reads: {error}. Is this the store's host?") from error
        if known_id and reader.identity != known_id:
            reader.leave()
            raise StoreUnusableError(
                f"local_reads: queue {self.queue!r} is stored into {known_url} (id {known_id}), "
                f"and {url} is another store (id {reader.identity})"
            )
        return reader

    def _known_store(self) -> tuple[str, str]:
        """The id and the URL of the store that the queue goes into; empty if nobody says it."""
        key = own_key(self.queue, "store")
        try:
            with connect(self.url) as server:
                value: Any = server.get(key)
        except NoPermissionError:
            log.warning(
                "the server's ACL keeps this producer from %s: that its store is that of queue %r "
                "is not checked",
                key,
                self.queue,
            )
            value = None
        except redis.RedisError as error:
            raise explain(error, self.url) from error
        known_id, _, known_url = (value or b"").decode(errors="replace").partition(" ")
        return known_id, known_url


class LocalReadProducer(LocalReadCalls, Producer):
    """A `Producer` on the store's host, whose reads are answered from the store's files.

    `local_reads` is the store's URL, or True for the one that the queue goes into, as the server
    says; where its ACL does not let a producer ask, that of BACKSCROLL_STORE. The rest is as in
    `Producer`. The store is opened by the first read, for reading only, which needs rights to its
    files. A read waits for this producer's own writes, up to `timeout_seconds`, and for nothing
    else: it needs no worker, and others' writes are seen once they are stored.

    Reads raise `StoreUnavailableError` and `StoreUnusableError`, also where the store is not that
    of the queue; `NotConfirmedError` when a write before is not stored in time.
    """


class AsyncLocalReadProducer(LocalReadCalls, AsyncProducer):
    """As `LocalReadProducer`, for asyncio."""
