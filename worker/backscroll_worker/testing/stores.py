"""What the tests of stores have in common: a store to test, a clock, and short ways to look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Unpack, cast

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation, Restore
from backscroll.contract.requests import Requests
from backscroll.contract.results import Outcome, RestoreReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.history import History
from backscroll_worker.contract.pacing import Unfinished, finish
from backscroll_worker.maintenance.restore import restore
from backscroll_worker.stores import StoreOptions, open_store

HOUR: Final = 3_600_000_000

requests: Final = Requests(Limits())
"""Builds the operations that a producer would send."""


class Clock:
    """Microseconds since 1970 that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_750_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, *, hours: float = 0, seconds: float = 0, micros: int = 0) -> None:
        self.now += int(hours * HOUR) + int(seconds * 1e6) + micros


class StoreUnderTest(History):
    """A store by both names of what it does: those of its contract, and those of `History`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def open_tested(url: str, **options: Unpack[StoreOptions]) -> StoreUnderTest:
    """The store at `url`, open."""
    return StoreUnderTest(open_store(url, **options))


def contents(store: StoreUnderTest, key: str) -> list[str]:
    """What a session's messages say, in order."""
    return [message.content for message in store.load(key)]


def found(store: StoreUnderTest, query: str) -> set[str]:
    """What the messages say that a search finds."""
    return {hit.message.content for hit in store.search(query, limit=1_000)}


def keys(store: StoreUnderTest) -> set[str]:
    """All sessions' keys."""
    return {info.key for info in store.sessions(limit=1_000).sessions}


def say(store: StoreUnderTest, key: str, *contents: str) -> list[str]:
    """Append user messages, each by itself; returns their ids."""
    return [store.append(key, ChatMessage.user(content))[0] for content in contents]


def apply_all(store: StoreUnderTest, operations: Iterable[Operation]) -> list[Outcome]:
    """Apply a group of writes of which none may be refused."""
    answers = store.apply(list(operations))
    for answer in answers:
        if isinstance(answer, OperationRefusedError):
            raise answer
    done = [finish(each.slices) if isinstance(each, Unfinished) else each for each in answers]
    return cast(list[Outcome], done)


def bring_back(store: StoreUnderTest, archive: Archive, key: str, **options: Any) -> RestoreReport:
    """Restore a session from the archive, as the worker does."""
    return finish(restore(store.store, archive, Restore(new_op_id(), 0, key, **options)))
