"""Waits for the results that the worker publishes: for any number of callers, on one connection.

The server is asked for each result once, and reports when a missing one has come (CLIENT TRACKING,
which any server from 6.0 has and any user may use); nothing blocks on the server. Where tracking is
not available, and now and then in any case, it is asked again.
"""

from __future__ import annotations

import heapq
import logging
import select
import socket
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import redis

from backscroll.contract.operations import Operation, Read
from backscroll.transport.connection import backoff, connect, is_refused_for_now, is_retryable
from backscroll.transport.mailbox import Mailbox, PerProcess
from backscroll.transport.pinned_connection import Command, PinnedConnection
from backscroll.transport.rq_protocol import best_result, job_key, results_key

# Put into the box: the server has neither the job nor a result. It was done before anybody wanted
# its result, or the server has lost it; sending it again shows what became of it.
GONE: Final = object()

_TRACKED_SECONDS: Final = (1.0, 4.0)
_POLLED_SECONDS: Final = (0.01, 0.5)
_MOST_AT_ONCE: Final = 64

log = logging.getLogger("backscroll.producer")


@dataclass(eq=False, slots=True)
class Watch:
    """One caller's wait for the result of `operation` after the stream's entry `after`.

    `is_over`: something was put into the box.
    """

    operation: Operation
    after: str
    box: Mailbox
    due: float = 0.0
    pause: float = 0.0
    is_over: bool = False

    @property
    def stream(self) -> str:
        return results_key(self.operation.op_id)


class Results:
    """Gives callers the results of their operations."""

    def __init__(self, url: str, retries: int) -> None:
        client = connect(url)
        self._threads = PerProcess(lambda: _Thread(_Watcher(client, retries)))

    def watch(self, operation: Operation, after: str, box: Mailbox) -> Watch:
        """Have `box` get the fields of the first result after `after`, `GONE`, or an error."""
        watch = Watch(operation, after, box)
        self._threads.get().put("watch", watch)
        return watch

    def forget(self, watch: Watch) -> None:
        """Nobody waits any more. A read that is not done yet is taken back."""
        if not watch.is_over:
            self._threads.get().put("forget", watch)

    def take_back(self, operation: Operation) -> None:
        """Nobody wants the answer to this read: the worker need not carry it out."""
        self._threads.get().put("take back", operation)

    def close(self) -> None:
        """Disconnect; who still waits gets nothing."""
        if (thread := self._threads.made()) is not None:
            thread.put("close", None)


class _Thread:
    """Passes messages to a watcher, which runs in a thread of its own.

    The thread does not keep it alive: a producer that was never closed can be collected.
    """

    def __init__(self, watcher: _Watcher) -> None:
        self._inbox = watcher.inbox
        threading.Thread(target=watcher.run, name="backscroll-results", daemon=True).start()
        weakref.finalize(self, self._inbox.put, "owner gone", None)

    def put(self, what: str, about: Any) -> None:
        self._inbox.put(what, about)


class _Inbox:
    """A queue that `select` can wait for."""

    def __init__(self) -> None:
        self._messages: deque[tuple[str, Any]] = deque()
        self.bell, self._ring = socket.socketpair()
        self.bell.setblocking(False)
        self._ring.setblocking(False)

    def put(self, what: str, about: Any) -> None:
        self._messages.append((what, about))
        with suppress(BlockingIOError):  # it rings already
            self._ring.send(b"\0")

    def take(self) -> list[tuple[str, Any]]:
        with suppress(BlockingIOError):
            while self.bell.recv(4096):
                pass
        return [self._messages.popleft() for _ in range(len(self._messages))]


class _Watcher:
    """What the thread does."""

    def __init__(self, client: redis.Redis, retries: int) -> None:
        self.inbox = _Inbox()
        self._connection = PinnedConnection(client)
        self._retries = retries
        self._watched: dict[str, list[Watch]] = {}
        self._due: list[tuple[float, int, Watch]] = []
        self._numbers = count()
        self._changed: set[str] = set()
        self._results_to_delete: list[str] = []
        self._jobs_to_delete: list[str] = []
        self._is_ready = False
        self._pauses = _POLLED_SECONDS
        self._failures = 0

    def run(self) -> None:
        """Until the owner is gone."""
        while True:
            try:
                self._wait()
                for what, about in self.inbox.take():
                    if what == "owner gone":
                        self._connection.reset()
                        return
                    self._do(what, about)
                self._look()
                self._delete()
            except redis.RedisError as error:
                self._fail(error)
            except Exception as error:
                log.exception("waiting for results failed unexpectedly")
                self._fail(error)

    def _wait(self) -> None:
        """Until somebody wants something, something has changed, or it is time to ask again."""
        ready = select.poll()  # and not select, which knows no descriptor beyond 1,023
        ready.register(self.inbox.bell, select.POLLIN)
        if (own := self._connection.socket) is not None:
            self._connection.read_pushes()  # some may have come with the last replies
            ready.register(own, select.POLLIN)
        while self._due and self._due[0][0] != self._due[0][2].due:
            heapq.heappop(self._due)  # it was asked for sooner, or nobody waits any more
        milliseconds = 1e3 * max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
        events = ready.poll(0 if self._changed else milliseconds)
        if own is not None and any(descriptor == own.fileno() for descriptor, _ in events):
            self._connection.read_pushes()

    def _do(self, what: str, about: Any) -> None:
        if what == "watch":
            self._watched.setdefault(about.operation.op_id, []).append(about)
            self._ask_at(about, time.monotonic())
        elif what == "forget" and self._finish(about):
            if isinstance(about.operation, Read):
                self._jobs_to_delete.append(job_key(about.operation.op_id))
        elif what == "take back":
            self._jobs_to_delete.append(job_key(about.op_id))
        elif what == "close":
            self._watched.clear()
            self._due.clear()
            self._disconnect()

    def _look(self) -> None:
        """Ask for all that has changed or is due."""
        now = time.monotonic()
        wanted = [watch for op_id in self._changed for watch in self._watched.get(op_id, ())]
        self._changed.clear()
        for watch in wanted:
            watch.due = 0.0
        while self._due and self._due[0][0] <= now:
            due, _, watch = heapq.heappop(self._due)
            if due == watch.due:
                wanted.append(watch)
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            self._ask(wanted[start : start + _MOST_AT_ONCE])

    def _ask(self, watches: list[Watch]) -> None:
        if not self._is_ready:
            self._begin()
        commands: list[Command] = []
        for watch in watches:
            # The job first: its hash goes when its result comes.
            commands.append(("EXISTS", job_key(watch.operation.op_id)))
            commands.append(("XREAD", "STREAMS", watch.stream, watch.after))
        if is_late := any(watch.pause for watch in watches):
            commands.append(("HELLO",))
        self._connection.send(*commands)
        replies = self._connection.replies()
        self._failures = 0
        for watch, is_queued, found in zip(watches, replies[::2], replies[1::2], strict=False):
            self._settle(watch, is_queued, found)
        if is_late and _is_replica(replies[-1]):
            # Results come here too, if late; the name may lead to the new primary by now.
            self._disconnect()
            self._ask_all_at(time.monotonic() + _TRACKED_SECONDS[0])

    def _settle(self, watch: Watch, is_queued: Any, found: Any) -> None:
        if isinstance(found, Exception):
            if is_refused_for_now(found):
                raise found
            self._deliver(watch, found)
        elif found:
            self._deliver(watch, _result_in(found))
            if isinstance(watch.operation, Read):  # it may be large, and nobody asks for it again
                self._results_to_delete.append(watch.stream)
        elif is_queued == 0:
            self._deliver(watch, GONE)
        else:
            first, longest = self._pauses
            watch.pause = min(2 * watch.pause, longest) if watch.pause else first
            self._ask_at(watch, time.monotonic() + watch.pause)

    def _delete(self) -> None:
        """Remove what nobody needs any more; it would expire anyway, so errors do not matter."""
        commands: list[Command] = []
        if self._results_to_delete:
            commands.append(("UNLINK", *self._results_to_delete))
        # Not DEL: a producer may let its reads expire, and has no permission to remove jobs.
        commands += [("EXPIRE", key, 0) for key in self._jobs_to_delete]
        self._results_to_delete, self._jobs_to_delete = [], []
        if commands:
            self._connection.send(*commands)
            self._connection.replies()

    def _begin(self) -> None:
        """Have the server report changes, on a new connection."""
        self._pauses = _POLLED_SECONDS
        try:
            self._connection.call(("CLIENT", "TRACKING", "ON", "NOLOOP"))
        except redis.ResponseError as error:
            if is_refused_for_now(error):
                raise
        else:
            if self._connection.on_invalidation(self._note_change):
                self._pauses = _TRACKED_SECONDS
        self._is_ready = True

    def _note_change(self, push: Any) -> None:
        """`push` is the word "invalidate" and the keys, or None for all that there are."""
        if push[1] is None:
            self._changed.update(self._watched)
        else:
            self._changed.update(key.decode().rpartition(":")[2] for key in push[1])

    def _deliver(self, watch: Watch, outcome: Any) -> None:
        self._finish(watch)
        watch.is_over = True
        watch.box.put(outcome)

    def _finish(self, watch: Watch) -> bool:
        """Take `watch` out; whether it was there."""
        watch.due = 0.0
        watches = self._watched.get(watch.operation.op_id, [])
        if watch not in watches:
            return False
        watches.remove(watch)
        if not watches:
            del self._watched[watch.operation.op_id]
        return True

    def _ask_at(self, watch: Watch, due: float) -> None:
        watch.due = due
        heapq.heappush(self._due, (due, next(self._numbers), watch))

    def _ask_all_at(self, due: float) -> None:
        self._due.clear()
        for watches in self._watched.values():
            for watch in watches:
                self._ask_at(watch, due)

    def _fail(self, error: Exception) -> None:
        """Try again after a pause; after `retries` times, who waits gets the error."""
        self._disconnect()
        self._failures += 1
        if self._failures <= self._retries and is_retryable(error):
            self._ask_all_at(time.monotonic() + backoff().compute(self._failures))
            return
        self._failures = 0
        for watches in list(self._watched.values()):
            for watch in list(watches):
                self._deliver(watch, error)

    def _disconnect(self) -> None:
        self._connection.reset()
        self._changed.clear()
        self._is_ready = False


def _result_in(found: Any) -> dict[bytes, bytes] | Exception:
    try:
        return best_result(found)
    except Exception:  # an invalid reply must not fail the others who wait
        return redis.exceptions.InvalidResponse(f"unexpected reply: {str(found)[:100]!r}")


def _is_replica(hello: Any) -> bool:
    """What HELLO says; before Redis 6.2 it fails without arguments."""
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2], strict=False))
    return isinstance(hello, dict) and hello.get(b"role") in (b"replica", b"slave")
