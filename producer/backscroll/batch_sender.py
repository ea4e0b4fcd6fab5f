"""Sends the operations of many callers together, from a thread of its own.

Calls that are made while a batch is on its way to the server travel in the next one, in the order
in which they were made. Callers only wait: on any event loop, in any thread. Whatever happens to
one (cancelled, interrupted by a signal's handler, its loop closed), the others' calls go on.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import redis
from redis.retry import Retry

from backscroll.contract.errors import BackscrollError, carrying
from backscroll.contract.operations import Operation, Read, Write
from backscroll.spool.forwarder import MAX_BATCH_BYTES, Forwarder
from backscroll.transport.acks import Ack, check_fsynced, not_yet_sent
from backscroll.transport.connection import connect, explain, is_retryable, with_retries
from backscroll.transport.mailbox import Mailbox, PerProcess, deliver
from backscroll.transport.rq_protocol import (
    SENT_AGAIN,
    Enqueued,
    Job,
    JobWriter,
    Spooled,
)
from backscroll.transport.sender import (
    JOBS_PER_CALL,
    JobConnection,
    Reply,
    is_own_fault,
    too_large,
)
from backscroll.transport.tails import About, Trust

log = logging.getLogger("backscroll.producer")

Outcome = Enqueued | Spooled | Exception

_GONE: Final = object()
_MAX_CONFIRMING: Final = 8


@dataclass(eq=False, slots=True)
class _Pending:
    """An operation on its way, and the box where its caller waits.

    `is_known`: the server had it already, so it neither waits in the spool nor for what does.
    """

    operation: Operation
    ack: Ack
    job: Job
    box: Mailbox
    is_known: bool

    @property
    def is_unwanted(self) -> bool:
        """Whether its caller has gone, and it would change nothing."""
        return isinstance(self.operation, Read) and self.box.is_abandoned


@dataclass(eq=False, slots=True)
class _End:
    """Put behind the last operation: the connections are closed, and `box` gets None."""

    box: Mailbox


class BatchSender:
    """Puts operations onto the queue, or into the spool while the server accepts none."""

    def __init__(
        self, url: str, writer: JobWriter, retry: Retry, forwarder: Forwarder | None
    ) -> None:
        self._writer = writer
        self._forwarder = forwarder
        client = connect(url)
        self._threads = PerProcess(lambda: _Thread(_Batches(url, client, writer, retry, forwarder)))

    def submit(
        self, operation: Operation, ack: Ack, box: Mailbox, *, is_known: bool = False
    ) -> None:
        """Send `operation` with the next batch; `box` gets an `Enqueued`, `Spooled` or error.

        `is_known`: the server had it already, and is asked for its result.
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

    The thread does not keep it alive: a producer that was never closed can be collected.
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
        while len(batch) < JOBS_PER_CALL and size < MAX_BATCH_BYTES and items.qsize():
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
        client: redis.Redis,
        writer: JobWriter,
        retry: Retry,
        forwarder: Forwarder | None,
    ) -> None:
        self._url = url
        self._client = client
        self._trust = Trust()
        self._connection = JobConnection(client, writer, self._trust)
        self._idle: list[JobConnection] = []
        self._confirming: set[threading.Thread] = set()
        self._writer = writer
        self._retry = retry
        self._forwarder = forwarder

    def close(self) -> None:
        for connection in (self._connection, *self._idle):
            connection.reset()

    def send(self, batch: list[_Pending]) -> list[tuple[Mailbox, Outcome]]:
        """The outcome for each of `batch`, except for those that are confirmed later."""
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

    def _outcomes(self, batch: list[_Pending], *, again: bool = False) -> Sequence[Outcome]:
        """What the server says of each; `again`: of a batch that may have been carried out."""
        forwarder = None if batch[0].is_known else self._forwarder
        if forwarder is not None and forwarder.count:
            return self._spooled(forwarder, batch, None)
        jobs = [item.job for item in batch]
        sessions = [About.of(item.operation, item.ack) for item in batch]
        try:
            replies, failures = with_retries(
                self._retry,
                lambda failures: self._connection.enqueue(
                    jobs, sessions, again=again or batch[0].is_known or failures > 0
                ),
            )
        except redis.RedisError as error:
            if forwarder is None:
                return self._failed(batch, error)
            # The forwarder finds out which of the batch the server refuses.
            return self._spooled(forwarder, batch, error)
        outcomes = [self._outcome(*pair) for pair in zip(batch, replies, strict=True)]
        if again or failures:
            outcomes = [_sent_again(it) for it in outcomes]
        if forwarder is not None and any(depth == 0 for depth, *_ in replies):
            return self._keep_refused(forwarder, batch, outcomes, replies)
        return outcomes

    def _outcome(self, item: _Pending, reply: Reply) -> Outcome:
        try:
            return self._writer.parse_reply(reply)
        except BackscrollError as error:
            return carrying(item.operation, error)

    def _confirm_aside(self, sent: list[tuple[_Pending, Enqueued]]) -> None:
        """Wait for the server's disk without delaying the next batch.

        WAITAOF is about what its own connection wrote, so the next batch gets another connection.
        What was sent has been answered, so it comes before that batch all the same.
        """
        self._confirming = {thread for thread in self._confirming if thread.is_alive()}
        if len(self._confirming) >= _MAX_CONFIRMING:
            self._confirm(self._connection, sent)
            return
        connection = self._connection
        self._connection = (
            self._idle.pop()
            if self._idle
            else JobConnection(self._client, self._writer, self._trust)
        )
        thread = threading.Thread(
            target=self._confirm, args=(connection, sent), name="backscroll-fsync", daemon=True
        )
        self._confirming.add(thread)
        thread.start()

    def _confirm(self, connection: JobConnection, sent: list[tuple[_Pending, Enqueued]]) -> None:
        deliver(zip([item.box for item, _ in sent], self._confirmed(connection, sent), strict=True))
        if connection is not self._connection:
            self._idle.append(connection)

    def _confirmed(
        self, connection: JobConnection, sent: list[tuple[_Pending, Enqueued]]
    ) -> Sequence[Outcome]:
        def attempt(failures: int) -> Any:
            if failures:  # on a new connection, which has to write them again
                sessions = [About.of(item.operation) for item, _ in sent]
                connection.enqueue([item.job for item, _ in sent], sessions, again=True)
            return connection.wait_fsynced()

        try:
            fsynced, failures = with_retries(self._retry, attempt)
            return [_checked(it, SENT_AGAIN if failures else sent_, fsynced) for it, sent_ in sent]
        except redis.RedisError as error:
            return [explain(error, self._url, item.operation) for item, _ in sent]
        except Exception as error:
            log.exception("waiting for the server's disk failed unexpectedly")
            return [error] * len(sent)

    def _failed(self, batch: list[_Pending], error: redis.RedisError) -> Sequence[Outcome]:
        """Find out whether the server refuses only some of the batch, and which."""
        jobs = [item.job for item in batch]
        if is_own_fault(error, jobs) and self._connection.is_serving():
            if len(batch) > 1:
                half = len(batch) // 2
                halves = batch[:half], batch[half:]
                return [one for part in halves for one in self._outcomes(part, again=True)]
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
        """Keep the writes of the batch for later; reads cannot wait there and fail."""
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


def _sent_again(outcome: Outcome) -> Outcome:
    return SENT_AGAIN if isinstance(outcome, Enqueued) else outcome


def _checked(item: _Pending, enqueued: Enqueued, fsynced: Any) -> Outcome:
    try:
        check_fsynced(fsynced, item.operation)
    except BackscrollError as error:
        return error
    return enqueued
