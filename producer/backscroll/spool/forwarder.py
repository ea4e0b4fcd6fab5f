"""Sends what a spool holds to the server, in order, as soon as the server accepts it.

While the server refuses everything (unreachable, a replica, out of memory, queue full), all waits,
however long that takes. A job that it refuses for ever while it accepts others is set aside in the
spool, with a line in the log, and those behind it are sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from typing import Any, Final

import redis

from backscroll.contract.errors import (
    BackscrollError,
    OperationRefusedError,
    QueueFullError,
    ServerRefusedError,
    SpoolUnusableError,
)
from backscroll.spool.queue import Entry, Spool
from backscroll.transport.connection import RETRYABLE, backoff, connect, explain
from backscroll.transport.mailbox import Inbox, Mailbox
from backscroll.transport.outage import Outage
from backscroll.transport.rq_protocol import Job, JobWriter
from backscroll.transport.sender import JobConnection, Reply, is_own_fault, marked

_MAX_BATCH_JOBS: Final = 500
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

# How often one job must fail, each time right after the server accepted a call without any, before
# it is set aside. A broken connection may be the network's fault, so that takes longer.
_REFUSALS: Final = 3
_BROKEN_CONNECTIONS: Final = 6

log = logging.getLogger("backscroll.producer")


@dataclass(eq=False, slots=True)
class _Waiter:
    """A caller that waits until `answer` returns something, or until a time has passed."""

    answer: Callable[[], Any]
    until: float
    box: Mailbox

    def give_up(self) -> None:
        """Nothing more is sent."""
        self.box.put(None if self.until == float("inf") else False)


class Forwarder:
    """A thread that empties `spool`. It runs from the first job to the producer's end."""

    def __init__(self, url: str, spool: Spool, writer: JobWriter) -> None:
        self._url = url
        self._spool = spool
        self._writer = writer
        self._connection = JobConnection(connect(url), writer)
        self._inbox: Inbox[_Waiter | None] = Inbox(lambda it: None if it is None else it.give_up())
        self._waiters: list[_Waiter] = []
        self._has_left = False  # the file still holds jobs that the server has
        self._refused: dict[int, str] = {}
        self._most = _MAX_BATCH_JOBS
        self._strikes = 0
        self._outage = Outage(log, f"sending what is in {spool.path}")
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Send what an earlier producer has left."""
        if self.count:
            self._start()

    @property
    def count(self) -> int:
        """How many jobs wait here."""
        return self._spool.count

    def refuse_after_fork(self) -> None:
        """See `Spool.refuse_after_fork`."""
        self._spool.refuse_after_fork()

    def take(self, jobs: list[Job]) -> int:
        """Keep `jobs` until the server has them; the number for `notify_sent`.

        Only one thread at a time may call it.
        """
        number = self._spool.put(jobs)
        self._start()
        self._inbox.put(None)
        return number

    def notify_sent(self, number: int, timeout_seconds: float, box: Mailbox) -> None:
        """Put True into `box` when the server has the job with that number and all before it.

        A `ServerRefusedError` if the server refuses that job for ever, False if it takes too long.
        """
        self._wait(_Waiter(lambda: self._fate(number), time.monotonic() + timeout_seconds, box))

    def notify_empty(self, timeout_seconds: float, box: Mailbox) -> None:
        """Put True into `box` when the server has everything, False if that takes too long."""
        until = time.monotonic() + timeout_seconds
        self._wait(_Waiter(lambda: True if not self.count else None, until, box))

    def close(self, box: Mailbox) -> None:
        """Stop sending, then put None into `box`.

        What is left is sent by the next producer on this spool.
        """
        self._is_closing = True
        if self._spool.is_inherited:
            box.put(None)
            return
        if self._thread is None:
            self._end()
        self._inbox.put(_Waiter(lambda: None, float("inf"), box))

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="backscroll-forwarder", daemon=True
            )
            self._thread.start()

    def _end(self) -> None:
        self._connection.reset()
        self._spool.close()
        self._inbox.end()
        for waiter in self._waiters:
            waiter.give_up()

    def _run(self) -> None:
        try:
            self._send_until_closed()
        finally:
            self._is_closing = True
            self._end()

    def _send_until_closed(self) -> None:
        failures = 0
        while not self._is_closing:
            if not self.count and not self._has_left:
                self._listen(None)
                continue
            try:
                progressed = self._send_some()
            except Exception as error:
                progressed = False
                self._note(error)
            self._answer()
            if progressed:
                failures = 0
                continue
            failures += 1
            until = time.monotonic() + backoff().compute(failures)
            while not self._is_closing and (left := until - time.monotonic()) > 0:
                self._listen(left)

    def _listen(self, seconds: float | None) -> None:
        """Wait for a message, and answer the callers that can be answered by now."""
        due = [waiter.until for waiter in self._waiters if waiter.until < float("inf")]
        if due:
            left = max(0.0, min(due) - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        try:
            waiter = self._inbox.get(timeout=seconds)
        except Empty:
            waiter = None
        if waiter is not None:
            self._waiters.append(waiter)
        self._answer()

    def _answer(self) -> None:
        now, waiting = time.monotonic(), []
        for waiter in self._waiters:
            answer = waiter.answer()
            if answer is None and waiter.until > now:
                waiting.append(waiter)
            else:
                waiter.box.put(False if answer is None else answer)
        self._waiters = waiting

    def _wait(self, waiter: _Waiter) -> None:
        self.refuse_after_fork()
        answer = waiter.answer()
        if answer is not None or self._is_closing or self._thread is None:
            waiter.box.put(answer is not None and answer)
        else:
            self._inbox.put(waiter)

    def _fate(self, number: int) -> Any:
        if number in self._refused:
            return ServerRefusedError(self._refused[number])
        return True if self._spool.sent >= number else None

    def _send_some(self) -> bool:
        """Send one batch; False when the server accepted none of it."""
        if self._has_left:
            try:
                self._drop([])
            except SpoolUnusableError as error:  # the disk fails: the rest can be sent all the same
                self._note(error)
        entries = self._spool.head(self._most, MAX_BATCH_BYTES)
        if not entries:
            return not self._has_left
        is_alone = len(entries) == 1
        # A refusal of one job means something only if the server accepts others.
        is_serving = is_alone and self._strikes > 0 and self._connection.is_serving()
        try:
            replies = self._connection.enqueue([marked(entry.job) for entry in entries])
        except redis.RedisError as error:
            self._most = max(1, len(entries) // 2)  # one of them may be what the server refuses
            if is_alone and is_own_fault(error, [entries[0].job]):
                self._strike(entries[0], error, is_serving)
            raise
        self._strikes = 0
        self._most = min(2 * self._most, _MAX_BATCH_JOBS)
        accepted = next((n for n, (depth, *_) in enumerate(replies) if depth == 0), len(entries))
        taken = [
            entry
            for entry, reply in zip(entries[:accepted], replies, strict=False)
            if not self._is_refused(entry, reply)
        ]
        if accepted:
            self._drop(taken)
        else:
            self._note(QueueFullError(self._writer.queue, self._writer.max_depth))
        return accepted > 0

    def _is_refused(self, entry: Entry, reply: Reply) -> bool:
        """Whether the reply to this job is a refusal for ever; then it is set aside."""
        try:
            self._writer.parse_reply(reply)
        except OperationRefusedError as error:
            self._set_aside(entry, error)
            return True
        return False

    def _drop(self, entries: list[Entry]) -> None:
        """Delete from the file what the server has; if the disk fails, later."""
        self._has_left = True
        self._spool.drop(entries)
        self._has_left = False
        if not self.count:
            log.info("all operations in %s were sent", self._spool.path)
            self._outage.report_recovered()

    def _strike(self, entry: Entry, error: redis.RedisError, is_serving: bool) -> None:
        """Count a failure of one job alone; set it aside after enough of them."""
        if self._strikes and not is_serving:
            return
        self._strikes += 1
        if self._strikes < (_BROKEN_CONNECTIONS if isinstance(error, RETRYABLE) else _REFUSALS):
            return
        self._strikes, self._most = 0, _MAX_BATCH_JOBS
        self._set_aside(entry, error)

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        op_id = entry.job[0]
        reason = f"the server accepts other operations, but refuses operation {op_id}: {error}"
        self._spool.set_aside(entry, str(error))
        self._refused[entry.number] = f"{reason}. It is set aside in {self._spool.path}"
        log.error("%s; it is set aside in %s, the next ones are sent", reason, self._spool.path)

    def _note(self, error: Exception) -> None:
        """Log why nothing is sent, not each time."""
        if isinstance(error, redis.RedisError):
            error = explain(error, self._url)
        elif not isinstance(error, BackscrollError):
            log.debug("sending failed unexpectedly", exc_info=error)
        self._outage.report(str(error) or repr(error), "operations wait there")
