"""Sends the operations of many callers together, from a thread of its own.

Calls that are made while a batch is on its way to the server travel in the next one, in the order
in which they were made. Callers only wait: on any event loop, in any thread. Whatever becomes of
one (cancelled, interrupted by a signal's handler, its loop closed), the others' calls go on.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import redis
from redis.retry import Retry

from backscroll.contract.errors import BackscrollError, carrying
from backscroll.contract.operations import Operation, Read, Write
from backscroll.spool.forwarder import MAX_BATCH_BYTES, MAX_BATCH_JOBS, Forwarder
from backscroll.transport.acks import Ack, check_fsynced, not_yet_sent
from backscroll.transport.connection import connect, explain, is_retryable
from backscroll.transport.mailbox import Mailbox, PerProcess, deliver
from backscroll.transport.rq_protocol import (
    SENT_AGAIN,
    Enqueued,
    Job,
    JobWriter,
    Spooled,
)
from backscroll.transport.sender import Line, Reply, is_own_fault, too_large

log = logging.getLogger("backscroll.producer")

Outcome = Enqueued | Spooled | Exception

_GONE: Final = object()
_MOST_CONFIRMING: Final = 8


@dataclass(eq=False, slots=True)
class _Pending:
    """An operation on its way, and the box its caller waits at.

    `is_known`: the server had it already, so it neither waits in the spool nor for what does.
    """

    operation: Operation
    ack: Ack
    job: Job
    box: Mailbox
    is_known: bool

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody would look at what comes of it, and nothing else would."""
        return isinstance(self.operation, Read) and self.box.is_abandoned


@dataclass(eq=False, slots=True)
class _End:
    """Put behind the last operation: the thread ends, and says so."""

    box: Mailbox


class BatchSender:
    """Puts operations onto the queue, or into the spool while the server takes none."""

    def __init__(
        self, url: str, writer: JobWriter, retry: Retry, forwarder: Forwarder | None
    ) -> None:
        self._writer = writer
        self._forwarder = forwarder
        client = connect(url)
        self._threads = PerProcess(
            lambda: _Thread(_Batches(url, lambda: Line(client, writer), writer, retry, forwarder))
        )

    def submit(
        self, operation: Operation, ack: Ack, box: Mailbox, *, is_known: bool = False
    ) -> None:
        """Send `operation` with the next batch; `box` gets an `Enqueued`, `Spooled` or error.

        `is_known`: the server had it already, and is asked what became of it.
        """
        if self._forwarder is not None:
            self._forwarder.refuse_after_fork()
        job = self._writer.job(operation, ack)
        self._threads.get().put(_Pending(operation, ack, job, box, is_known))

    def close(self, box: Mailbox) -> None:
        """Send what is still waiting; then `box` gets None."""
        thread = self._threads.made()
        if thread is None:
            box.put(None)
        else:
            thread.put(_End(box))


class _Thread:
    """Sends what is put, as many at a time as there are by then.

    The thread does not keep it alive: a producer that nobody closed can be collected.
    """

    def __init__(self, batches: _Batches) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(
            target=_serve, args=(self._items, batches), name="backscroll-sender", daemon=True
        ).start()
        weakref.finalize(self, self._items.put, _GONE)

    def put(self, item: _Pending | _End) -> None:
        self._items.put(item)


def _serve(items: SimpleQueue[Any], batches: _Batches) -> None:
    next_item: Any = None
    while (item := next_item or items.get()) is not _GONE:
        next_item = None
        if isinstance(item, _End):
            batches.close()
            item.box.put(None)
            continue
        batch, size = [item], len(item.job[-1])
        while len(batch) < MAX_BATCH_JOBS and size < MAX_BATCH_BYTES and items.qsize():
            next_item = items.get()
            if not isinstance(next_item, _Pending) or next_item.is_known != item.is_known:
                break
            batch.append(next_item)
            size += len(next_item.job[-1])
            next_item = None
        deliver(batches.send(batch))


class _Batches:
    """What the thread does."""

    def __init__(
        self,
        url: str,
        new_line: Callable[[], Line],
        writer: JobWriter,
        retry: Retry,
        forwarder: Forwarder | None,
    ) -> None:
        self._url = url
        self._new_line = new_line
        self._line = new_line()
        self._idle: list[Line] = []
        self._confirming: set[threading.Thread] = set()
        self._writer = writer
        self._retry = retry
        self._forwarder = forwarder

    def close(self) -> None:
        for line in (self._line, *self._idle):
            line.reset()

    def send(self, batch: list[_Pending]) -> list[tuple[Mailbox, Outcome]]:
        """What became of each of `batch`, nobody forgotten."""
        try:
            wanted = [item for item in batch if not item.is_unwanted]
            outcomes = self._outcomes(wanted) if wanted else []
            settled: list[tuple[Mailbox, Outcome]] = []
            to_confirm: list[tuple[_Pending, Enqueued]] = []
            for item, outcome in zip(wanted, outcomes, strict=True):
                if item.ack == "fsynced" and isinstance(outcome, Enqueued):
                    to_confirm.append((item, outcome))
                else:
                    settled.append((item.box, outcome))
            if to_confirm:
                self._confirm_aside(to_confirm)
            return settled
        except Exception as error:
            log.exception("a batch of %d operations failed unexpectedly", len(batch))
            return [(item.box, error) for item in batch]

    def _outcomes(self, batch: list[_Pending]) -> Sequence[Outcome]:
        forwarder = None if batch[0].is_known else self._forwarder
        if forwarder is not None and forwarder.count:
            return self._spooled(forwarder, batch, None)
        failures = 0

        def count(_error: Exception) -> None:
            nonlocal failures
            failures += 1

        try:
            replies: list[Reply] = self._retry.call_with_retry(
                lambda: self._line.enqueue([item.job for item in batch]), count, is_retryable
            )
        except redis.RedisError as error:
            if forwarder is None:
                return self._failed(batch, error)
            # The forwarder finds out which of the batch the server refuses.
            return self._spooled(forwarder, batch, error)
        outcomes = [self._outcome(*pair) for pair in zip(batch, replies, strict=True)]
        if failures:
            outcomes = [SENT_AGAIN if isinstance(it, Enqueued) else it for it in outcomes]
        if forwarder is not None and any(depth == 0 for depth, *_ in replies):
            return self._keep_refused(forwarder, batch, outcomes, replies)
        return outcomes

    def _outcome(self, item: _Pending, reply: Reply) -> Outcome:
        try:
            return self._writer.parse_reply(reply)
        except BackscrollError as error:
            return carrying(item.operation, error)

    def _confirm_aside(self, sent: list[tuple[_Pending, Enqueued]]) -> None:
        """Wait for the server's disk without holding up the next batch.

        WAITAOF is about what its own connection wrote, so the next batch gets another one. What was
        sent has been answered, so it comes before that all the same.
        """
        self._confirming = {thread for thread in self._confirming if thread.is_alive()}
        if len(self._confirming) >= _MOST_CONFIRMING:
            self._confirm(self._line, sent)
            return
        line, self._line = self._line, self._idle.pop() if self._idle else self._new_line()
        thread = threading.Thread(
            target=self._confirm, args=(line, sent), name="backscroll-fsync", daemon=True
        )
        self._confirming.add(thread)
        thread.start()

    def _confirm(self, line: Line, sent: list[tuple[_Pending, Enqueued]]) -> None:
        deliver(zip([item.box for item, _ in sent], self._confirmed(line, sent), strict=True))
        if line is not self._line:
            self._idle.append(line)

    def _confirmed(self, line: Line, sent: list[tuple[_Pending, Enqueued]]) -> Sequence[Outcome]:
        failures = 0

        def attempt() -> Any:
            if failures:  # on a new connection, which has to write them for itself
                line.enqueue([item.job for item, _ in sent])
            return line.wait_fsynced()

        def count(_error: Exception) -> None:
            nonlocal failures
            failures += 1

        try:
            fsynced = self._retry.call_with_retry(attempt, count, is_retryable)
            return [_checked(item, enqueued, fsynced) for item, enqueued in sent]
        except redis.RedisError as error:
            return [explain(error, self._url, item.operation) for item, _ in sent]
        except Exception as error:
            log.exception("waiting for the server's disk failed unexpectedly")
            return [error] * len(sent)

    def _failed(self, batch: list[_Pending], error: redis.RedisError) -> Sequence[Outcome]:
        """Find out whether it is one of the batch alone that the server refuses."""
        jobs = [item.job for item in batch]
        if is_own_fault(error, jobs) and self._line.is_serving():
            if len(batch) > 1:
                half = len(batch) // 2
                return [*self._outcomes(batch[:half]), *self._outcomes(batch[half:])]
            if is_retryable(error):
                return [too_large(error, batch[0].operation, jobs[0])]
        return [explain(error, self._url, item.operation) for item in batch]

    def _keep_refused(
        self,
        forwarder: Forwarder,
        batch: list[_Pending],
        outcomes: list[Outcome],
        replies: Sequence[Reply],
    ) -> Sequence[Outcome]:
        """The queue is full from some job on: these wait in the spool until there is room."""
        first = next(index for index, (depth, *_) in enumerate(replies) if depth == 0)
        kept = self._spooled(forwarder, batch[first:], None)
        return [
            *outcomes[:first],
            *(
                one if isinstance(item.operation, Write) else refused
                for item, one, refused in zip(batch[first:], kept, outcomes[first:], strict=True)
            ),
        ]

    def _spooled(
        self, forwarder: Forwarder, batch: list[_Pending], why: redis.RedisError | None
    ) -> list[Outcome]:
        """Keep the writes of the batch for later; what cannot wait there fails."""
        kept = iter(self._keep(forwarder, [it for it in batch if isinstance(it.operation, Write)]))
        return [
            next(kept)
            if isinstance(item.operation, Write)
            else not_yet_sent(forwarder.count)
            if why is None
            else explain(why, self._url, item.operation)
            for item in batch
        ]

    def _keep(self, forwarder: Forwarder, writes: list[_Pending]) -> list[Outcome]:
        try:
            number = forwarder.take([item.job for item in writes]) if writes else 0
            return [Spooled(number)] * len(writes)
        except BackscrollError as error:
            if len(writes) == 1:
                return [carrying(writes[0].operation, error)]
        return [outcome for item in writes for outcome in self._keep(forwarder, [item])]


def _checked(item: _Pending, enqueued: Enqueued, fsynced: Any) -> Outcome:
    try:
        check_fsynced(fsynced, item.operation)
    except BackscrollError as error:
        return error
    return enqueued
