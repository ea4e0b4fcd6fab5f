"""How a background thread hands a result to a caller that waits, in a thread or on a loop.

A caller may be interrupted anywhere (a signal's handler, a cancelled task), so it holds nothing
that others need: no lock and no condition, only a box of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Mailbox(Protocol):
    """Where any thread puts one result."""

    @property
    def is_abandoned(self) -> bool: ...

    def put(self, outcome: Any) -> None: ...


class Box:
    """A thread's; `wait` raises what was put when it is an exception."""

    is_abandoned = False

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()

    def put(self, outcome: Any) -> None:
        """Hand `outcome` over."""
        self._queue.put(outcome)

    def wait(self, seconds: float | None = None) -> Any:
        """What was put; `TimeoutError` when nothing was in time."""
        try:
            outcome = self._queue.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def outcome(self, seconds: float | None = None) -> Any:
        """As `wait`, for code that either kind of caller shares: it blocks and never suspends."""
        return self.wait(seconds)


class AsyncBox:
    """A task's, on the event loop that runs it."""

    def __init__(self) -> None:
        """Raises `RuntimeError` where no event loop runs; nothing was sent by then."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no event loop of asyncio runs here, so this call cannot wait; nothing was sent. "
                "Without asyncio use Producer or Local"
            ) from None
        self._future: asyncio.Future[Any] = self.loop.create_future()

    @property
    def is_abandoned(self) -> bool:
        """Whether the task was cancelled."""
        return self._future.cancelled()

    def put(self, outcome: Any) -> None:
        """Hand `outcome` over, from any thread."""
        deliver([(self, outcome)])

    def settle(self, outcome: Any) -> None:
        """As `put`, on the loop."""
        if self._future.done():  # the caller gave up
            return
        if isinstance(outcome, BaseException):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)

    async def outcome(self, seconds: float | None = None) -> Any:
        """As `Box.outcome`, but it suspends."""
        if seconds is None:
            return await self._future
        async with asyncio.timeout(seconds):  # wait_for of 3.11 may swallow a cancellation
            return await self._future


def deliver(outcomes: Iterable[tuple[Mailbox, Any]]) -> None:
    """Put each outcome into its box; an event loop is woken once for all of its."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[AsyncBox, Any]]] = {}
    for box, outcome in outcomes:
        if isinstance(box, AsyncBox):
            by_loop.setdefault(box.loop, []).append((box, outcome))
        else:
            box.put(outcome)
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, settled)


def _settle(outcomes: list[tuple[AsyncBox, Any]]) -> None:
    for box, outcome in outcomes:
        box.settle(outcome)


class Inbox(Generic[T]):
    """A queue for one thread until that ends; what comes later goes to `refuse`.

    So nobody waits for a thread that has ended, whichever came first.
    """

    def __init__(self, refuse: Callable[[T], object]) -> None:
        self._queue: SimpleQueue[T] = SimpleQueue()
        self._refuse = refuse
        self._is_over = False

    def put(self, item: T) -> None:
        self._queue.put(item)
        if self._is_over:
            self._refuse_rest()

    def get(self, timeout: float | None = None) -> T:
        """The next one; `queue.Empty` when there is none in time."""
        return self._queue.get(timeout=timeout)

    def end(self) -> None:
        """The thread takes nothing more."""
        self._is_over = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        with suppress(Empty):
            while True:
                self._refuse(self._queue.get_nowait())


class PerProcess(Generic[T]):
    """One `T` for each process: the threads and connections behind it do not survive a fork."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """This process's, made when it is first asked for."""
        made = self._made.get(os.getpid())
        # One step, so that two threads get the same without a lock, which a fork might inherit.
        return self._made.setdefault(os.getpid(), self._make()) if made is None else made

    def made(self) -> T | None:
        """This process's, if there is one."""
        return self._made.get(os.getpid())
