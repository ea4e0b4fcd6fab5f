"""Renames of sessions: where what was requested under an earlier key belongs.

A spool, a resend or a slow adapter may bring operations under the key that the session had when
they were requested. What was requested before the rename is for the session, by its new key; what
was requested after it begins a new session. What belongs to a turn goes where that turn runs, and
a pop that names its messages where these are.

A reset gives what a session has another key, too. But as the old key goes on to be used, an adapter
whose clock is slow means the new session, so only what comes out of a spool is for the past one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from backscroll.contract.lifecycle import Merge, Rename, Reset
from backscroll.contract.operations import Operation, Write
from backscroll.contract.splicing import Pop
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.contract.tombstones import Tombstone, Tombstones

W = TypeVar("W", bound=Write)

_FOR_THE_KEY_AS_IT_IS: Final = (ImportSession, Merge, Rename, RestoreSession)


class SessionRename(NamedTuple):
    """One rename: when it was requested, by the requester's clock, and recorded, by the store's."""

    old: str
    new: str
    asked_at: int
    noted_at: int
    is_reset: bool = False
    """Whether another session has the old key since then: only a spool is that late."""


class SessionRenames:
    """The renames that a store knows, in their order.

    `latest` is the latest time of any of them, -1 if there are none: later operations need no
    lookup, unless they belong to a turn.
    """

    def __init__(self, renames: Iterable[SessionRename] = ()) -> None:
        self._put(renames)

    def __iter__(self) -> Iterator[SessionRename]:
        return iter(self._renames)

    def __len__(self) -> int:
        return len(self._renames)

    def _put(self, renames: Iterable[SessionRename]) -> None:
        self._renames: list[SessionRename] = []
        self._places: dict[str, list[int]] = {}  # of the renames of each old key
        self.latest = -1
        for each in renames:
            self.add(each)

    def add(self, rename: SessionRename) -> None:
        self._places.setdefault(rename.old, []).append(len(self._renames))
        self._renames.append(rename)
        self.latest = max(self.latest, rename.asked_at)

    def followed(
        self, operation: W, is_for: Callable[[str, W], bool] = lambda key, operation: False
    ) -> tuple[W, int]:
        """The operation under its session's present key, and when it got that: -1 for never.

        `is_for` says of an operation with a turn or with named messages whether the session with a
        key runs that turn, or has run it, or has one of the messages.
        """
        key: Any = getattr(operation, "key", None)
        if key not in self._places or isinstance(operation, _FOR_THE_KEY_AS_IT_IS):
            return operation, -1
        is_pop = isinstance(operation, Pop) and operation.is_named
        if is_pop or _turn_of(operation) is not None:
            if is_for(key, operation):
                return operation, -1
            for new, asked_at in self.reached(key):
                if is_for(new, operation):
                    return operation.changed(key=new), asked_at
        if is_pop:
            return operation, -1
        found, since, place = key, -1, -1
        is_late = operation.was_spooled and not isinstance(operation, Reset)
        while (at := self._next(found, place, operation.at, is_late)) is not None:
            place, rename = at, self._renames[at]
            found, since = rename.new, rename.asked_at
        return (operation, -1) if found == key else (operation.changed(key=found), since)

    def _next(self, key: str, after: int, at: int, is_late: bool) -> int | None:
        """The place of the first later rename of the key that was requested at `at` or later."""
        for place in self._places.get(key, ()):
            rename = self._renames[place]
            if place > after and at <= rename.asked_at and (is_late or not rename.is_reset):
                return place
        return None

    def reached(self, key: str) -> Iterator[tuple[str, int]]:
        """The keys that a session with this key may have by now, and when it got each."""
        reached, (first, *_) = {key}, self._places.get(key, [len(self._renames)])
        for rename in self._renames[first:]:
            if rename.old in reached:
                reached.add(rename.new)
                yield rename.new, rename.asked_at

    def forget(self, key: str) -> list[tuple[str, int]]:
        """Forget a key that is erased; returns the earlier keys of its session, until when each.

        What was requested under an earlier key of another session, which had one of these on its
        way, is still for that session.
        """
        earlier, its_own = list[tuple[str, int]](), {key}
        of_others = list[tuple[int, SessionRename]]()
        for place, rename in reversed([*enumerate(self._renames)]):
            if rename.new in its_own:  # and may have been before: others are merged into it
                earlier.append((rename.old, rename.asked_at))
                its_own.add(rename.old)
            else:
                its_own.discard(rename.old)  # another session had it then
                of_others.append((place, rename))
        names = {key, *(name for name, _ in earlier)}
        self._put(_past(names, reversed(of_others)))
        return earlier


def _past(
    names: Collection[str], renames: Iterable[tuple[int, SessionRename]]
) -> list[SessionRename]:
    """The renames without these names: two that meet at one of them become one, in its place."""
    found, arrived = list[tuple[int, SessionRename]](), dict[str, list[tuple[int, SessionRename]]]()
    for place, rename in renames:
        came = arrived.pop(rename.old, []) if rename.old in names else [(place, rename)]
        goes = arrived.setdefault(rename.new, []) if rename.new in names else found
        goes += [
            (at, each._replace(new=rename.new, is_reset=each.is_reset or rename.is_reset))
            for at, each in came
        ]
    return [rename for _, rename in sorted(found, key=itemgetter(0))]


def _turn_of(operation: Operation) -> str | None:
    turn_id: str | None = getattr(operation, "turn_id", None)
    return turn_id


def earlier_tombstone(tombstones: Tombstones, until: int, now: int) -> Tombstone:
    """For an earlier key of an erased session: another erasure than that of the session itself,
    so that of what is archived under that key only what was said until then is erased.
    """
    return Tombstone(until, tombstones.free_moment(max(until, now)))
