"""Which platform ids a session has, and which it had: a message that has one is stored once.

Those of messages are found by an index, those of messages that are gone see `gone_ids`.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation, Write
from backscroll.contract.results import Outcome
from backscroll_worker.contract.platform_ids import platform_digest
from backscroll_worker.contract.turns import outcome
from backscroll_worker.stores.sqlite.gone_ids import note_gone
from backscroll_worker.stores.sqlite.packed_ids import unpack_id
from backscroll_worker.stores.sqlite.pending import Pending
from backscroll_worker.stores.sqlite.writer_cache import KnownSession

PackedId = bytes | str
_Ids = dict[str, PackedId | None]
GONE: Final = b""
"""Stands for the id of a message that is gone."""

_PRESENT: Final = (  # of each "session id", in one statement: half the time of one for each
    "SELECT session_id, platform_id, message_id FROM carray(?) CROSS JOIN messages"
    " INDEXED BY messagerow_platform_id_session_id"
    " ON session_id = CAST(value AS INTEGER) AND platform_id = substr(value, 21)"
)
# Nearly always there are none: most platforms' ids grow, and have the same length.
_ANY_BETWEEN: Final = (
    "SELECT 1 FROM messages INDEXED BY messagerow_platform_id_session_id"
    " WHERE platform_id BETWEEN ? AND ? LIMIT 1"
)
_HAS_GONE: Final = (
    "SELECT value FROM carray(?)"
    " WHERE EXISTS (SELECT 1 FROM gone_platform_ids WHERE session_id = value)"
)
_GONE: Final = "SELECT session_id, ? FROM gone_platform_ids WHERE session_id = ? AND digest = ?"


class Selection(NamedTuple):
    """Those messages of an append that are to be stored, and the ids of all if they are others."""

    ids: list[PackedId]
    messages: list[ChatMessage]
    named: tuple[str, ...] | None


class PlatformIds:
    """What is known of platform ids while a group is applied: by session's row, and then by id."""

    def __init__(self, connection: apsw.Connection, pending: Pending) -> None:
        self._connection = connection
        self._pending = pending
        self._known: dict[int, _Ids] = {}
        self.new_sessions = set[int]()
        """Sessions that this group began: what is not noted of them is not there."""
        self.may_repeat = False
        """Whether the group may bring a message that its session has, or had."""

    def expect(
        self,
        operations: Sequence[Operation],
        find: Callable[[str], KnownSession | None],
        *,
        are_keys_final: bool,
    ) -> bool:
        """Find what the messages of appends to known sessions need; whether any has such an id.

        `are_keys_final` says that no operation is for a session with another key than it names, and
        that none of the sessions is still being copied.
        """
        named = [
            (id_, each.key)
            for each in operations
            if isinstance(each, Append)
            for message in each.messages
            if (id_ := message.platform_id) is not None
        ]
        if not named:
            return False
        sessions = {key: each for key in {key for _, key in named} if (each := find(key))}
        gone = self._sessions_with_gone([each.id for each in sessions.values()])
        # Nearly always all are new, and nothing but appends: then nobody has to look at each.
        are_distinct = len(named) == len(set(named))
        are_appends = set(map(type, operations)) == {Append}
        are_plain = are_distinct and are_appends and are_keys_final and not gone
        if are_plain and not self._is_any_between(min(named)[0], max(named)[0]):
            return True
        wanted = defaultdict[int, _Ids](dict)
        for id_, key in named:
            if key in sessions:
                wanted[sessions[key].id][id_] = None
        if self._look_up(wanted, gone) or not are_plain:
            self.may_repeat, self._known = True, wanted
        return True

    def _sessions_with_gone(self, sessions: Sequence[int]) -> list[int]:
        """Those of the sessions of which messages are gone."""
        if not sessions:
            return []
        found: Iterable[Any] = self._connection.execute(
            _HAS_GONE, (apsw.carray(array("q", sessions)),)
        )
        return [session for (session,) in found]

    def _is_any_between(self, first: str, last: str) -> bool:
        """Whether any session has a message with such an id."""
        return self._connection.execute(_ANY_BETWEEN, (first, last)).get is not None

    def _look_up(self, wanted: Mapping[int, _Ids], gone: Iterable[int]) -> bool:
        """Find messages by session and platform id, all together; whether there are any.

        `gone` are the sessions of which messages are gone.
        """
        for session in gone:
            digests = [(id_, session, platform_digest(id_)) for id_ in wanted[session]]
            found: Iterable[Any] = self._connection.executemany(_GONE, digests)
            wanted[session].update((id_, GONE) for _, id_ in found)
        places: list[str] = []
        for session, ids in wanted.items():
            head = f"{session:019} "
            places += [head + id_ for id_ in ids]
        if not places:
            return False
        asked = (apsw.carray(tuple(places)),)
        present: list[Any] = self._connection.execute(_PRESENT, asked).fetchall()
        for session, id_, message_id in present:
            # Imported messages may share one; then the first counts.
            wanted[session][id_] = wanted[session][id_] or message_id
        return bool(gone or present)

    def find(self, session: int, platform_id: str) -> PackedId | None:
        """The id of that message, `GONE` if it is gone, None if there never was one."""
        known = self._known.setdefault(session, {})
        if platform_id not in known:
            if session in self.new_sessions:
                return None
            self._pending.flush_rows(self._connection)
            found: _Ids = {platform_id: None}
            self._look_up({session: found}, self._sessions_with_gone([session]))
            known.update(found)
        return known[platform_id]

    def knows(self, session: int, platform_id: str) -> bool:
        """Whether the session has, or had, such a message."""
        return self.find(session, platform_id) is not None

    def take(
        self, session: int, ids: Sequence[PackedId], messages: Sequence[ChatMessage]
    ) -> Selection | None:
        """Note that the messages are stored; returns which are to be, None for all of them."""
        known = self._known.setdefault(session, {})
        for index, message in enumerate(messages):
            id_ = message.platform_id
            if id_ is not None:
                if (known[id_] if id_ in known else self.find(session, id_)) is not None:
                    return self._select(session, ids, messages, index)
                known[id_] = ids[index]
        return None

    def _select(
        self,
        session: int,
        ids: Sequence[PackedId],
        messages: Sequence[ChatMessage],
        first_known: int,
    ) -> Selection:
        new, named = list(range(first_known)), list(ids)
        for index in range(first_known, len(ids)):
            platform_id = messages[index].platform_id
            there = None if platform_id is None else self.find(session, platform_id)
            if there is not None:
                named[index] = there or ids[index]
                continue
            if platform_id is not None:
                self._known[session][platform_id] = ids[index]
            new.append(index)
        return Selection(
            [ids[index] for index in new],
            [messages[index] for index in new],
            None if named == list(ids) else tuple(map(unpack_id, named)),
        )

    def absent(self, session: int, messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
        """Those messages that the session does not have under their platform id."""
        ids = [(message, message.platform_id) for message in messages]
        return tuple(message for message, id_ in ids if id_ is None or not self.find(session, id_))

    def forget(self, session: int) -> None:
        """Forget what is known of a session of which more than its platform ids has changed."""
        self._known.pop(session, None)
        self.new_sessions.discard(session)

    def note_gone(self, session: int, platform_ids: Iterable[str | None], now: int) -> None:
        """Note that messages are gone which the session is not to store again."""
        gone = [id_ for id_ in platform_ids if id_ is not None]
        self._known.setdefault(session, {}).update(dict.fromkeys(gone, GONE))
        note_gone(self._connection, session, gone, now)

    def outcome_again(
        self, write: Write, find: Callable[[str], KnownSession | None], affected: int
    ) -> Outcome:
        """The outcome of an operation that was applied before."""
        if isinstance(write, Append) and write.may_be_elsewhere(affected):
            session = find(write.key)
            named = None if session is None else self._named(session.id, write)
            return Outcome(affected, duplicate=True, message_ids=named)
        return outcome(affected, duplicate=True)

    def _named(self, session: int, append: Append) -> tuple[str, ...] | None:
        """The ids of the messages as they are stored; None if they follow from the op id."""
        named = list(append.message_ids)
        for index, message in enumerate(append.messages):
            if message.platform_id is not None:
                there = self.find(session, message.platform_id)
                named[index] = unpack_id(there) if there else named[index]
        return None if tuple(named) == append.message_ids else tuple(named)
