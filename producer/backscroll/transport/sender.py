"""Sends operations to the server: on one connection, and for the threads of a blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.retry import Retry

from backscroll.contract.codec import mark_spooled
from backscroll.contract.errors import BackscrollError, ServerRefusedError, carrying
from backscroll.contract.operations import Operation
from backscroll.transport.acks import Ack, check_fsynced
from backscroll.transport.connection import (
    RETRYABLE,
    SOCKET_TIMEOUT_SECONDS,
    connect,
    explain,
    is_forbidden,
    is_refused_for_now,
    is_retryable,
    with_retries,
)
from backscroll.transport.mailbox import PerProcess
from backscroll.transport.pinned_connection import PinnedConnection
from backscroll.transport.rq_protocol import (
    ENQUEUE,
    SENT_AGAIN,
    Enqueued,
    Job,
    JobWriter,
)
from backscroll.transport.tails import SERVER_COMMAND, About, Trust, server_id

# No limit of a server (proto-max-bulk-len, client-query-buffer-limit) can be set lower.
LEAST_LIMIT_BYTES: Final = 1024 * 1024

JOBS_PER_CALL: Final = 32
"""That one call of the script enqueues: all other clients of the server wait for it."""

_MAX_IDLE: Final = 16
_NOT_BY_A_JOB: Final = (redis.exceptions.InvalidResponse, redis.AuthenticationError)

Reply = Sequence[Any]
"""A number and bytes, and more bytes where it is an answer."""

_FULL: Final[Reply] = (0, b"")


class JobConnection:
    """One connection on which jobs are enqueued; whatever fails, the next call connects anew."""

    def __init__(self, client: redis.Redis, writer: JobWriter, trust: Trust | None = None) -> None:
        self._connection = PinnedConnection(client)
        self._writer = writer
        self._trust = trust or Trust()
        self._server = ""

    def enqueue(
        self, jobs: Sequence[Job], about: Sequence[About] | None = None, *, again: bool = False
    ) -> list[Reply]:
        """Run the script on all jobs, without retries; its reply for each.

        `about` says for each job which sessions it is about, None that each may be about any. What
        is sent `again` may arrive after what others have asked for since. Behind a job for which
        the queue was full none is sent by a later call: meanwhile there may be room again.
        """
        self._connection.refresh()
        if self._connection.socket is None:
            self._trust.lose()
            self._server = self._server_id()
        if again:
            jobs = [marked(job) for job in jobs]
            about = None if about is None else [each.again() for each in about]
        replies: list[Reply] = []
        for start in range(0, max(1, len(jobs)), JOBS_PER_CALL):
            some = slice(start, start + JOBS_PER_CALL)
            replies += self._enqueue(jobs[some], about and about[some])
            if any(depth == 0 for depth, *_ in replies[start:]):
                break
        return [*replies, *[_FULL] * (len(jobs) - len(replies))]

    def _enqueue(self, jobs: Sequence[Job], about: Sequence[About] | None) -> list[Reply]:
        call = self._writer.script_call(
            jobs, about, may_answer=self._trust.holds, server=self._server
        )
        try:
            replies = self._connection.run(ENQUEUE, *call)
        except redis.ResponseError as error:
            if is_refused_for_now(error):  # the name may lead to another server by now
                self._connection.reset()
            raise
        if not _are_replies(replies, len(jobs)):
            self._connection.reset()
            raise redis.exceptions.InvalidResponse(f"unexpected reply: {str(replies)[:100]!r}")
        return replies  # type: ignore[no-any-return]

    def _server_id(self) -> str:
        """The id of the server that is now connected; "" where this user may not ask."""
        try:
            return server_id(self._connection.call(SERVER_COMMAND)[0])
        except redis.ResponseError:
            return ""

    def wait_fsynced(self) -> Any:
        """WAITAOF's reply for what this connection wrote, or the server's error."""
        try:
            return self._connection.call(("WAITAOF", 1, 0, int(SOCKET_TIMEOUT_SECONDS * 500)))[0]
        except redis.ResponseError as error:
            return error

    def is_serving(self) -> bool:
        """Whether the server accepts a call that enqueues nothing, on a new connection."""
        self._connection.reset()
        try:
            return self.enqueue([]) == []
        except redis.RedisError:
            return False

    def reset(self) -> None:
        """Disconnect."""
        self._connection.reset()


def marked(job: Job) -> Job:
    """The job, as one that is sent late; see `codec.mark_spooled`."""
    return (*job[:-1], mark_spooled(job[-1]))


def is_own_fault(error: Exception, jobs: Sequence[Job]) -> bool:
    """Whether `jobs` may be why a server that accepts other calls does not accept this one.

    A job that is too large for the server's limits looks like a broken connection.
    """
    if is_refused_for_now(error) or is_forbidden(error) or isinstance(error, _NOT_BY_A_JOB):
        return False
    if isinstance(error, RETRYABLE):
        return size_bytes(jobs) >= LEAST_LIMIT_BYTES
    return isinstance(error, redis.ResponseError | redis.DataError)


def size_bytes(jobs: Iterable[Job]) -> int:
    """The size of the jobs' data, which is nearly all of them."""
    return sum(len(job[-1]) for job in jobs)


def too_large(error: Exception, operation: Operation, job: Job) -> BackscrollError:
    """The error for an operation on which the server disconnects each time."""
    return carrying(
        operation,
        ServerRefusedError(
            f"the server disconnects on this operation of {size_bytes([job]):,} bytes, but accepts "
            f"others: {error}. Is its proto-max-bulk-len or client-query-buffer-limit too low?"
        ),
    )


class Sender:
    """Enqueues one operation at a time, for any number of threads, again as `retry` says."""

    def __init__(self, url: str, writer: JobWriter, retry: Retry) -> None:
        self._url = url
        self._writer = writer
        self._retry = retry
        self._client = connect(url)
        self._trust = Trust()
        self._idle: PerProcess[list[JobConnection]] = PerProcess(list)

    def close(self) -> None:
        """Disconnect."""
        idle = self._idle.get()
        while idle:
            idle.pop().reset()

    def send(self, operation: Operation, ack: Ack, *, again: bool = False) -> Enqueued:
        """Enqueue `operation`, and with "fsynced" wait for the server's disk.

        `again`: the server had it already.
        """
        job, sessions = self._writer.job(operation, ack), [About.of(operation, ack)]

        def attempt(failures: int) -> Enqueued:
            with self._connection() as connection:
                (reply,) = connection.enqueue([job], sessions, again=again or failures > 0)
                enqueued = self._writer.parse_reply(reply)
                if ack == "fsynced":  # of this connection's writes, so on the same one
                    check_fsynced(connection.wait_fsynced(), operation)
                return enqueued

        try:
            enqueued, failures = with_retries(self._retry, attempt)
        except redis.RedisError as error:
            raise self._explained(error, operation, job) from error
        except BackscrollError as error:
            raise carrying(operation, error) from None
        return SENT_AGAIN if failures else enqueued

    def _explained(self, error: Exception, operation: Operation, job: Job) -> BackscrollError:
        if is_retryable(error) and is_own_fault(error, [job]):
            with self._connection() as connection:
                if connection.is_serving():
                    return too_large(error, operation, job)
        return explain(error, self._url, operation)

    @contextmanager
    def _connection(self) -> Iterator[JobConnection]:
        """A connection for this thread, for as long as it needs one."""
        idle = self._idle.get()
        try:
            connection = idle.pop()
        except IndexError:
            connection = JobConnection(self._client, self._writer, self._trust)
        try:
            yield connection
        finally:
            if len(idle) < _MAX_IDLE:
                idle.append(connection)
            else:
                connection.reset()


def _are_replies(replies: Any, count: int) -> bool:
    return (
        isinstance(replies, list)
        and len(replies) == count
        and all(
            isinstance(reply, list)
            and len(reply) >= 2
            and isinstance(reply[0], int)
            and isinstance(reply[1], bytes)
            for reply in replies
        )
    )
