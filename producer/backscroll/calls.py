"""What the calls stand on, whatever carries them out, and the way over the queue.

Written once, with `await`. Where a caller blocks, so does its box: nothing awaited here suspends
then, and `run` drives the call from beginning to end in the caller's thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from itertools import starmap
from operator import methodcaller
from pathlib import Path
from typing import Any, ClassVar, Final, ParamSpec, TypeVar

import redis

from backscroll.batch_sender import BatchSender
from backscroll.contract import lenient
from backscroll.contract.answers import answered_receipt
from backscroll.contract.attachment_reading import answered_attachment
from backscroll.contract.errors import (
    BackscrollError,
    MalformedJobError,
    ServerRefusedError,
    carrying,
)
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation, Read, Write
from backscroll.contract.requests import Requests
from backscroll.contract.results import Receipt
from backscroll.contract.splicing import Pop
from backscroll.recording import is_recording, recorded
from backscroll.redaction.hook import Policy, redacted
from backscroll.settings import ProducerSettings, check_switch
from backscroll.spool.forwarder import Forwarder
from backscroll.spool.queue import Spool
from backscroll.transport.acks import Ack, check_ack, no_response, not_yet_sent, still_spooled
from backscroll.transport.connection import explain, new_connection_at_once, retries_of
from backscroll.transport.mailbox import AsyncBox, Box
from backscroll.transport.result_stream import GONE, Results
from backscroll.transport.rq_protocol import SENT_AGAIN, Enqueued, JobWriter, Spooled, result_of
from backscroll.transport.sender import Sender
from backscroll.transport.tails import kept_answer

P = ParamSpec("P")
T = TypeVar("T")

_begin: Final = methodcaller("send", None)
_NO_BYTES: Final[Mapping[str, bytes]] = {}


def run(call: Callable[P, Coroutine[Any, Any, T]], *given: P.args, **named: P.kwargs) -> T:
    """What `call` returns or raises; it must not suspend.

    No Python code runs between the making of its coroutine and its beginning: there a signal's
    handler could raise, and leave one that never began, of which Python warns.
    """
    try:
        next(map(_begin, starmap(partial(call, **named), [given])))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise RuntimeError("a blocking call was suspended")


class Calls(ABC):
    """What the calls of sessions, messages and turns need of who has them."""

    url: str
    """Where it all goes: a server's, or a store's."""
    queue: str
    """The queue's name, which counts in a `dedup_key`."""
    _box: ClassVar[type[Box | AsyncBox]]

    def __init__(
        self,
        queue: str,
        limits: Limits,
        redact: Policy | None,
        timeout_seconds: float,
        lenient: bool,
    ) -> None:
        self._is_lenient = check_switch("lenient", lenient)
        self.queue = queue
        self._limits = limits
        self._redact = redact
        self._requests = Requests(limits, queue, lenient=lenient)
        self._timeout_seconds = timeout_seconds

    @property
    def spooled(self) -> int:
        """How many operations wait in the spool; 0 without one."""
        return 0

    async def _write(
        self, operation: Operation, ack: Ack | None, message_ids: tuple[str, ...] = ()
    ) -> Receipt:
        """Carry out a write; `message_ids` are those of the receipt unless its outcome has some."""
        operation = self._redacted(operation)  # before anything keeps it
        if not is_recording():
            return await self._settle(operation, ack, message_ids)
        with recorded(operation) as write:
            write.receipt = await self._settle(operation, ack, message_ids)
        return write.receipt

    @abstractmethod
    async def _settle(
        self, operation: Operation, ack: Ack | None, message_ids: tuple[str, ...]
    ) -> Receipt:
        """As `_write`, of what may be kept as it is."""

    @abstractmethod
    async def _read(self, operation: Operation) -> Any:
        """The answer to a read or to maintenance, for an `answered_…` function."""

    @abstractmethod
    async def _close(self) -> None: ...

    async def _pause(self, seconds: float) -> None:
        """Sleep, in the caller's way."""
        with suppress(TimeoutError):
            await self._box().outcome(seconds)

    async def _as_given(
        self, key: str, message: ChatMessage, held: Mapping[str, bytes] = _NO_BYTES
    ) -> ChatMessage:
        """A message of the session as it was given to a lenient producer, if this is one.

        `held` are bytes that are known already, by their SHA-256.
        """
        if not (self._is_lenient and lenient.is_kept(message)):
            return message
        return lenient.restored(message, {**await self._bytes_of(key, message, held), **held})

    async def _bytes_of(
        self, key: str, message: ChatMessage, held: Mapping[str, bytes] = _NO_BYTES
    ) -> dict[str, bytes]:
        """What a lenient producer has moved to the message's attachments, if it is there still."""
        found = dict[str, bytes]()
        for sha256 in set(lenient.missing(message)) - held.keys():
            wanted = self._requests.attachment(key, sha256)
            data = answered_attachment(wanted, await self._read(wanted))
            found |= {} if data is None else {sha256: data}
        return found

    def _redacted(self, operation: Operation) -> Operation:
        """What may be kept of it: the one door of all that has texts."""
        if self._redact is None:
            return operation
        return redacted(operation, self._redact, self._limits)


class QueueCalls(Calls):
    """What both producers are made of: senders, the waiting for results, and the spool."""

    def __init__(
        self,
        settings: ProducerSettings,
        ack: Ack,
        timeout_seconds: float,
        retries: int,
        spool: str | Path | None,
        spool_max_bytes: int,
        lenient: bool = False,
    ) -> None:
        super().__init__(settings.queue, settings.limits, settings.redact, timeout_seconds, lenient)
        self.url = settings.url
        self._ack = check_ack(ack)
        writer = JobWriter(settings.queue, settings.max_queue_depth, timeout_seconds)
        retry = retries_of(retries) if spool is None else new_connection_at_once(retries)
        self._results = Results(settings.url, retries)
        self._forwarder: Forwarder | None = None
        self._sender: Sender | None = None
        if self._box is Box and spool is None:
            self._sender = Sender(settings.url, writer, retry)
        try:
            if spool is not None:
                held = Spool(Path(spool), spool_max_bytes)
                self._forwarder = Forwarder(settings.url, held, writer)
            self._batches = BatchSender(settings.url, writer, retry, self._forwarder)
            if self._forwarder is not None:
                self._forwarder.begin()
        except BaseException:  # whoever tries again is to find the spool free
            if self._forwarder is not None:
                self._forwarder.close(box := Box())
                box.wait()
            raise

    @property
    def spooled(self) -> int:
        return 0 if self._forwarder is None else self._forwarder.count

    async def _close(self) -> None:
        self._batches.close(box := self._box())
        await box.outcome()
        if self._forwarder is not None:
            self._forwarder.close(box := self._box())
            await box.outcome()
        self._results.close()
        if self._sender is not None:
            self._sender.close()

    async def _settle(
        self, operation: Operation, ack: Ack | None, message_ids: tuple[str, ...]
    ) -> Receipt:
        ack = self._ack if ack is None else check_ack(ack)
        enqueued = await self._enqueue(operation, ack)
        returns = isinstance(operation, Pop) and not operation.was_spooled
        if isinstance(enqueued, Spooled):
            if ack == "queued" and not returns:
                return Receipt(operation.op_id, message_ids, spooled=True)
            enqueued = await self._once_sent(enqueued, operation, ack)
        if operation.was_spooled:  # and may have its result already
            enqueued = SENT_AGAIN
        if returns or (ack == "stored" and isinstance(operation, Write)):
            value = await self._answer(operation, ack, enqueued)
            return answered_receipt(value, operation, message_ids, enqueued.was_known)
        return Receipt(operation.op_id, message_ids)

    async def _read(self, operation: Operation) -> Any:
        if self.spooled and not isinstance(operation, Write):  # it would lack own writes
            await self._wait_until_all_is_sent()
        try:
            enqueued = await self._enqueue(operation, "queued")
        except BackscrollError:
            raise
        except BaseException:  # the caller was interrupted, and will not look at the answer
            if isinstance(operation, Read):
                self._results.take_back(operation)
            raise
        if isinstance(enqueued, Spooled):  # an erasure is a write as well
            enqueued = await self._once_sent(enqueued, operation, "queued")
        return await self._answer(operation, "queued", enqueued)

    async def _enqueue(
        self, operation: Operation, ack: Ack, *, is_known: bool = False
    ) -> Enqueued | Spooled:
        if self._sender is not None:  # straight from this thread: nobody else's calls can wait
            return self._sender.send(operation, ack, again=is_known)
        self._batches.submit(operation, ack, box := self._box(), is_known=is_known)
        enqueued: Enqueued | Spooled = await box.outcome()
        return enqueued

    async def _once_sent(self, spooled: Spooled, operation: Operation, ack: Ack) -> Enqueued:
        """What the server says of a spooled operation when it has it."""
        await self._wait_until_sent(spooled.number, operation)
        enqueued = await self._enqueue(operation, ack, is_known=True)
        if isinstance(enqueued, Spooled):
            raise still_spooled(operation, self.spooled)
        return SENT_AGAIN

    async def _wait_until_sent(self, number: int, operation: Operation) -> None:
        """Until the server has the operation with that number in the spool."""
        box = self._box()
        if self._forwarder is not None:
            self._forwarder.notify_sent(number, self._timeout_seconds, box)
        try:
            is_sent = await box.outcome()
        except ServerRefusedError as error:
            raise carrying(operation, error) from None
        if not is_sent:
            raise still_spooled(operation, self.spooled)

    async def _wait_until_all_is_sent(self) -> None:
        box = self._box()
        if self._forwarder is not None:
            self._forwarder.notify_empty(self._timeout_seconds, box)
        if not await box.outcome():
            raise not_yet_sent(self.spooled)

    async def _answer(self, operation: Operation, ack: Ack, enqueued: Enqueued) -> Any:
        """Out of a tail, or what the worker says after the last result that there was."""
        deadline, after = time.monotonic() + self._timeout_seconds, enqueued.last_result
        if enqueued.answer is not None:
            try:
                return kept_answer(operation, enqueued.answer)
            except MalformedJobError:  # the worker may know what waits there
                after = SENT_AGAIN.last_result
                await self._enqueue(operation, ack, is_known=True)
        while (result := await self._result(operation, after, deadline)) is GONE:
            # Done before anybody wanted its result; the store knows what came of it.
            await self._enqueue(operation, ack, is_known=True)
        return result_of(operation, result)

    async def _result(self, operation: Operation, after: str, deadline: float) -> Any:
        """The fields of the first result after `after`, or `GONE`."""
        watch = self._results.watch(operation, after, box := self._box())
        try:
            return await box.outcome(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise no_response(operation, self._timeout_seconds, self.queue) from None
        except redis.RedisError as error:
            raise explain(error, self.url, operation) from error
        finally:
            self._results.forget(watch)
