"""A store that is open in this process, and the one thread that uses it.

All who have opened it here share the thread. It applies what was asked for meanwhile as one group,
does maintenance in slices between groups, and what later commits would have to while nobody asks.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from typing import Any, Final, Unpack

from backscroll.contract.errors import (
    BackscrollError,
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
    carrying,
)
from backscroll.contract.operations import Maintenance, Operation, Read
from backscroll.transport.mailbox import Box, Inbox, Mailbox, deliver
from backscroll_worker.contract.answer_budget import TimeBudget
from backscroll_worker.contract.pacing import Slices, Unfinished
from backscroll_worker.contract.store import Store
from backscroll_worker.stores import StoreOptions, store_at

log = logging.getLogger("backscroll.store")

_MOST_AT_ONCE: Final = 2_000
_QUIET_SECONDS: Final = 0.1
_LAST_SECONDS: Final = 10.0

Begin = Callable[[Store, Operation], Slices[Any]]
"""Makes the slices of a maintenance operation."""


def only_reads(_store: Store, operation: Operation) -> Slices[Any]:
    """The `Begin` of who maintains nothing."""
    raise TypeError(f"{operation.kind} is for the one who writes to the store")


@dataclass(eq=False, slots=True)
class Call:
    """An operation whose answer, or error, goes into `box`; `begin` is for maintenance."""

    operation: Operation
    box: Mailbox
    begin: Begin = only_reads


@dataclass(eq=False, slots=True)
class _Join:
    """One more uses the thread; `box` gets True."""

    box: Mailbox


@dataclass(eq=False, slots=True)
class _Leave:
    """One less does, or, with `all`, nobody any more; `box` gets None when that is done."""

    box: Mailbox | None
    all: bool = False


class StoreThread:
    """A thread that opens `store` for its first user, and closes it when the last one has left.

    While another process writes to the store, it cannot be opened but for reading.
    """

    identity: str | None = None
    """The store's id, once it is open."""

    def __init__(self, store: Store, options: StoreOptions) -> None:
        self.url = store.url
        self.options = options
        self._store = store
        self._process = os.getpid()
        self._inbox: Inbox[Call | _Join | _Leave] = Inbox(self._decline)
        self._waiting: deque[Call] = deque()
        self._under_way: deque[tuple[Call, Slices[Any]]] = deque()
        self._leaving: deque[_Leave] = deque()
        self._users = 0
        self._is_over = False
        self._is_settled = False
        self._problem: Exception | None = None
        self._budget = TimeBudget()
        threading.Thread(target=self._run, name="backscroll-store", daemon=True).start()

    def put(self, call: Call) -> None:
        """Have `call` carried out, after all that was put before it."""
        if os.getpid() != self._process:
            raise StoreUnusableError(
                f"{self.url} was opened before this process was forked; open it after the fork"
            )
        self._inbox.put(call)

    def join(self) -> bool:
        """Be one more user; False if the store is closed by now. Raises what `acquire` does."""
        self._inbox.put(_Join(box := Box()))
        return bool(box.wait())

    def leave(self, box: Mailbox | None = None) -> None:
        """Be one user less. `box` gets None when what was put before is done; raises nothing."""
        if os.getpid() != self._process:
            if box is not None:
                box.put(None)
            return
        self._inbox.put(_Leave(box))

    def end(self) -> None:
        """Close the store, whoever uses it, as this process ends."""
        self._inbox.put(_Leave(box := Box(), all=True))
        with suppress(TimeoutError):
            box.wait(_LAST_SECONDS)

    def _run(self) -> None:
        first = self._inbox.get()
        rest: list[Call | _Join | _Leave] = [first]
        try:
            if isinstance(first, _Join):  # else another thread has the store
                self._store.acquire(_refuse)
                self.identity = self._store.identity()
                self._note(rest.pop())
                self._serve()
        except Exception as error:
            self._problem = error
            if self._users:
                log.exception("storing into %s failed unexpectedly", self.url)
        self._store.close()
        for place in [place for place, thread in _open.items() if thread is self]:
            del _open[place]  # whoever opens it next waits until here
        self._inbox.end()
        rest += [*self._waiting, *[call for call, _ in self._under_way], *self._leaving]
        for item in rest:
            self._decline(item)

    def _serve(self) -> None:
        while not self._is_over:
            self._take()
            self._apply()
            if self._under_way:
                self._do_slice()
            if self._leaving and not self._waiting:
                self._let_leave()

    def _take(self) -> None:
        """Take in all that was put; wait for something, when there is nothing to do.

        Who comes after the last one has left opens the store anew.
        """
        try:
            if not (self._waiting or self._under_way or self._leaving):
                self._note(self._next())
            while self._under_way or not self._leaving:
                self._note(self._inbox.get(timeout=0))
        except Empty:
            return

    def _next(self) -> Call | _Join | _Leave:
        while not self._is_settled:
            with suppress(Empty):
                return self._inbox.get(timeout=_QUIET_SECONDS)
            self._is_settled = not self._maintain()
        return self._inbox.get()

    def _maintain(self) -> bool:
        """Whether there is more for the store to do while nobody asks for anything."""
        try:
            return self._store.maintain_while_idle()
        except Exception:  # it comes again after the next write
            log.exception("maintaining %s failed unexpectedly", self.url)
            return False

    def _note(self, item: Call | _Join | _Leave) -> None:
        if isinstance(item, Call):
            self._waiting.append(item)
        elif isinstance(item, _Join):
            self._users += 1
            item.box.put(True)
        else:
            self._leaving.append(item)

    def _let_leave(self) -> None:
        """Let those leave whose calls are done; the last one ends the thread, and hears of that."""
        while self._leaving and not self._is_over:
            if self._leaving[0].all or self._users <= 1:
                self._is_over = self._leaving[0].all or not self._under_way
                return
            self._users -= 1
            if (box := self._leaving.popleft().box) is not None:
                box.put(None)

    def _apply(self) -> None:
        """Apply what waits as one group; the maintenance in it begins afterwards."""
        group: list[Call] = []
        while self._waiting and len(group) < _MOST_AT_ONCE:
            call = self._waiting.popleft()
            if isinstance(call.operation, Read) and call.box.is_abandoned:
                continue
            group.append(call)
        applied = [call for call in group if not isinstance(call.operation, Maintenance)]
        if applied:
            self._settle(applied)
        for call in group:
            if isinstance(call.operation, Maintenance):
                self._begin(call)

    def _settle(self, calls: list[Call]) -> None:
        try:
            answers = self._store.apply([call.operation for call in calls], budget=self._budget)
        except Exception as error:  # nothing was changed
            _fail(calls, error)
            return
        self._is_settled &= all(isinstance(call.operation, Read) for call in calls)
        self._waiting.extendleft(reversed(calls[len(answers) :]))  # the budget is used up
        done: list[tuple[Mailbox, Any]] = []
        for call, answer in zip(calls, answers, strict=False):
            if isinstance(answer, Unfinished):
                self._under_way.appendleft((call, answer.slices))
            elif isinstance(answer, OperationRefusedError):
                done.append((call.box, carrying(call.operation, answer)))
            else:
                done.append((call.box, answer))
        deliver(done)

    def _begin(self, call: Call) -> None:
        try:
            self._under_way.append((call, call.begin(self._store, call.operation)))
        except Exception as error:
            _fail([call], error)

    def _do_slice(self) -> None:
        call, slices = self._under_way[0]
        self._is_settled = False
        try:
            next(slices)
        except StopIteration as done:
            self._under_way.popleft()
            call.box.put(done.value)
        except Exception as error:
            self._under_way.popleft()
            _fail([call], error)

    def _decline(self, item: Call | _Join | _Leave) -> None:
        """Answer what comes when the store is closed, or could not be opened."""
        if isinstance(item, Call):
            _fail([item], self._problem or closed(self.url))
        elif isinstance(item, _Leave):
            deliver([(item.box, None)] if item.box is not None else [])
        else:
            item.box.put(False if self._problem is None else _own(self._problem))


def open_thread(url: str, **options: Unpack[StoreOptions]) -> StoreThread:
    """The thread that uses the store at `url` in this process, for one more; if need be a new one.

    `options` are as the first one wants them. Raises what `open_store` does.
    """
    store = store_at(url, **options)
    place = store.url, options.get("read_only", False)
    while True:
        thread = _open.get(place)
        if thread is None:
            made = StoreThread(store, options)
            # One step, so that there is one without a lock, which who is interrupted may keep.
            thread = _open.setdefault(place, made)
            if thread is not made:
                made.leave()
        if thread.join():
            return thread


def _refuse(holder: str) -> None:
    raise StoreUnavailableError(
        f"process {holder} has the store open, and an embedded store is for one process. Several "
        'share one by a queue: run "backscroll worker" on it, and connect("redis://…")'
    )


def closed(url: str) -> StoreUnusableError:
    """The error of who uses what was closed."""
    return StoreUnusableError(f"{url} was closed; open it again")


def _fail(calls: Iterable[Call], error: Exception) -> None:
    deliver([(call.box, _own(error, call.operation)) for call in calls])


def _own(error: Exception, operation: Operation | None = None) -> Exception:
    """As `error`, for one caller of several: to be raised changes it."""
    own = type(error).__new__(type(error), *error.args)
    vars(own).update(vars(error))
    own.__cause__, own.__suppress_context__ = error.__cause__, True
    if isinstance(own, BackscrollError):
        own = carrying(operation, own)
    return own.with_traceback(error.__traceback__)


_open: dict[tuple[str, bool], StoreThread] = {}  # by the store, and whether it is only read
_inherited: Final[list[StoreThread]] = []  # kept: SQLite must not close a parent's connection


def _forget_all() -> None:
    _inherited.extend(_open.values())
    _open.clear()


def _end_all() -> None:
    for thread in list(_open.values()):
        thread.end()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_end_all)
