"""Cleanup: expired sessions, messages beyond the number that a session may keep, and authors' ones.

1. Candidates are chosen, some hundred at a time. Idle ones are found by the index on the last
   activity, or by that on the sessions' own ttls, those with too many messages by the counts in
   their rows; no message is read. What is due by rules for authors is found by the authors' index.
2. With an archive, the candidates are written there and made durable.
3. Candidates that have not changed are deleted. A session that was written to meanwhile is active:
   it is kept, and removed from the archive.

A session's key is removed first, so that a later append begins a new session; its messages are
deleted afterwards in slices.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import apsw

from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll.contract.results import CleanupReport
from backscroll_worker.contract.archiving import (
    BYTES_PER_FILE,
    REMOVALS_PER_FILE,
    ArchivedSession,
    RemovalArchive,
    RemovalWriter,
)
from backscroll_worker.contract.cleanup_tally import Tally
from backscroll_worker.contract.clock import Cutoff, Passage
from backscroll_worker.contract.interchange import message_line
from backscroll_worker.contract.pacing import Pace, SliceClock, Slices, aside
from backscroll_worker.contract.retention import MICROS_PER_HOUR, Retention, Rule
from backscroll_worker.contract.states import States
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.sqlite import session_states
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.fork_table import is_source
from backscroll_worker.stores.sqlite.listing import get_session
from backscroll_worker.stores.sqlite.maintenance.author_messages import AuthorMessages, AuthorScan
from backscroll_worker.stores.sqlite.maintenance.message_cap import Part, parts
from backscroll_worker.stores.sqlite.maintenance.purge import purge_detached
from backscroll_worker.stores.sqlite.maintenance.space import with_checkpoints
from backscroll_worker.stores.sqlite.reads import stored_messages

MESSAGES_PER_READ: Final = 200
SESSIONS_PER_SCAN: Final = 5_000

_LAST_ROW: Final = 2**63 - 1
_COLUMNS: Final = (
    "id, key, last_activity, message_count, name, agent, channel, room, sender, ttl_hours"
)
_NAMES: Final = tuple(_COLUMNS.split(", "))
_MAY_GO: Final = "key IS NOT NULL AND pinned = 0"


@dataclass(slots=True)
class _Idle:
    """A whole session."""

    row: int
    info: SessionInfo
    rule: Rule
    digest: bytes | None = None
    states: States = field(default_factory=dict)

    is_whole = True

    @property
    def messages(self) -> int:
        return self.info.message_count

    def read(
        self, connection: apsw.Connection, first: int, most: int
    ) -> list[tuple[int, ChatMessage]]:
        """Its messages from row `first` on, with their rows."""
        return stored_messages(connection, self.row, first, _LAST_ROW, most)

    def remove(self, connection: apsw.Connection, now: SessionInfo, _at: int) -> int | None:
        """Remove its key; None when the session has changed since it was chosen."""
        if now != self.info or session_states.stored(connection, self.row) != self.states:
            return None
        connection.execute("UPDATE sessions SET key = NULL WHERE id = ?", (self.row,))
        return self.messages


_Removal = _Idle | Part | AuthorMessages


class Cleanup:
    """One cleanup. After each use of `access.removing` the writer discards its cached counts."""

    def __init__(
        self,
        access: Access,
        retention: Retention,
        passage: Passage,
        archive: RemovalArchive | None,
        blobs: Blobs,
        *,
        dry_run: bool,
    ) -> None:
        self._access = access
        self._blobs = blobs
        self._retention = retention
        self._passage = passage
        self._cutoffs = dict[int, Cutoff]()
        self._archive = archive
        self._dry_run = dry_run
        self._tally = Tally(retention, passage.now, dry_run)
        self._looking = Pace(1_000, 5_000)
        self._chosen: list[_Removal] = []
        self._capped = dict[int, int]()

    def slices(self) -> Slices[CleanupReport]:
        """Run the whole cleanup, in slices."""
        slices = self._all()
        yield from slices if self._dry_run else with_checkpoints(self._access, slices)
        return self._tally.report()

    def _all(self) -> Generator[None]:
        if not self._dry_run:
            # First delete sessions without a key, left by a cleanup that was killed.
            yield from purge_detached(self._access.repeatable)
            if self._archive is not None:
                self._archive.sweep()
        for _ in chain(self._choose_idle(), self._choose_capped(), self._choose_of_authors()):
            yield
            if len(self._chosen) >= REMOVALS_PER_FILE:
                yield from self._carry_out()
        yield from self._carry_out()
        if not self._dry_run:
            yield from purge_detached(self._access.repeatable)

    def _choose_idle(self) -> Generator[None]:
        """By the rules; of what no rule can take yet, by the sessions' own ttls."""
        shortest = self._retention.shortest_ttl
        before = 0 if shortest is None else self._passage.cutoff(shortest).before
        hours = 1e9 if shortest is None else shortest / MICROS_PER_HOUR
        by_rule = "last_activity < ?"
        by_own = "last_activity >= ? AND ttl_hours > 0 AND ttl_hours < ?"
        yield from self._choose_from("last_activity", (-1, 0), by_rule, before)
        yield from self._choose_from("ttl_hours", (0, _LAST_ROW), by_own, before, hours)

    def _choose_from(
        self, column: str, place: tuple[float, int], condition: str, *values: float
    ) -> Generator[None]:
        """Those that meet a condition and are idle, by the index on that column."""
        pace = Pace(100, 2_000)
        while True:
            with pace.slice() as count, self._access.outside() as connection:
                rows: list[Any] = connection.execute(
                    f"SELECT {column}, {_COLUMNS} FROM sessions"  # noqa: S608
                    f" INDEXED BY sessionrow_{column} WHERE {_MAY_GO} AND ({column}, id) > (?, ?)"
                    f" AND {condition} ORDER BY {column}, id LIMIT ?",
                    (*place, *values, count),
                ).fetchall()
                for at, *found in rows:
                    place = at, found[0]
                    rule = self._rule(found)
                    if self._is_idle(rule, found[2]):
                        self._choose(connection, found, rule)
            if len(rows) < count:
                return
            yield

    def _choose_capped(self) -> Generator[None]:
        smallest = self._retention.smallest_cap
        if smallest is None:
            return
        with self._access.outside() as connection:
            last: Any = connection.execute("SELECT ifnull(max(id), 0) FROM sessions").get
        for start in range(0, last, SESSIONS_PER_SCAN):
            with self._access.outside() as connection:
                rows: list[Any] = connection.execute(
                    f"SELECT {_COLUMNS} FROM sessions WHERE id > ? AND id <= ?"  # noqa: S608
                    f" AND message_count > ? AND {_MAY_GO}",
                    (start, start + SESSIONS_PER_SCAN, smallest),
                ).fetchall()
            yield
            clock = SliceClock()
            for found in rows:
                yield from self._cap(found)
                if clock.is_over:
                    yield
                    clock.begin()

    def _cap(self, found: Sequence[Any]) -> Generator[None]:
        rule = self._rule(found)
        if rule.keep_messages is None or self._is_idle(rule, found[2]):
            return
        with self._access.outside() as connection:
            info = get_session(connection, found[1])
        if info is not None:
            looking = self._access.outside
            found_parts = yield from parts(looking, found[0], info, rule, self._looking)
            self._chosen += found_parts  # by now it may be another list
            if found_parts:
                self._capped[found[0]] = found_parts[-1].end

    def _choose_of_authors(self) -> Generator[None]:
        scan = AuthorScan(self._access.outside, self._retention, self._passage, self._capped)
        for removal in scan.removals():
            if removal is None:
                yield
            elif not self._is_idle(
                self._rule_of(removal.info), to_micros(removal.info.last_activity)
            ):
                self._chosen.append(removal)
                yield

    def _rule_of(self, info: SessionInfo) -> Rule:
        return self._retention.rule_for(info.to_dict())

    def _rule(self, found: Sequence[Any]) -> Rule:
        return self._retention.rule_for(dict(zip(_NAMES, found, strict=True)))

    def _is_idle(self, rule: Rule, last_activity: int) -> bool:
        if rule.ttl_micros is None:
            return False
        if rule.ttl_micros not in self._cutoffs:
            self._cutoffs[rule.ttl_micros] = self._passage.cutoff(rule.ttl_micros)
        return self._cutoffs[rule.ttl_micros].is_past(last_activity)

    def _choose(self, connection: apsw.Connection, found: Sequence[Any], rule: Rule) -> None:
        info = get_session(connection, found[1])
        if info is not None:
            states = session_states.stored(connection, found[0])
            self._chosen.append(_Idle(found[0], info, rule, states=states))

    def _carry_out(self) -> Generator[None]:
        """Archive and delete the candidates."""
        chosen, self._chosen = self._chosen, []
        if self._dry_run:
            for removal in chosen:
                self._count(removal, removal.messages)
            return
        while chosen:
            if self._archive is None:
                yield from self._remove(chosen)
                chosen = []
            else:
                chosen = yield from self._archive_and_remove(self._archive, chosen)

    def _archive_and_remove(
        self, archive: RemovalArchive, chosen: list[_Removal]
    ) -> Generator[None, None, list[_Removal]]:
        """Archive and delete as many as fit into one file; returns the others."""
        writer, clock, written = archive.begin(), SliceClock(), 0
        try:
            for removal in chosen:
                yield from self._write(writer, removal, clock)
                written += 1
                if writer.size_bytes >= BYTES_PER_FILE:
                    break
            yield from aside(writer.publish)
        finally:
            writer.abandon()
        yield
        stayed = yield from self._remove(chosen[:written])
        if stayed:
            yield from archive.drop_slices(writer.file, stayed)
        return chosen[written:]

    def _write(
        self, writer: RemovalWriter, removal: _Removal, clock: SliceClock
    ) -> Generator[None]:
        is_whole = removal.is_whole
        rule = removal.rule.name_of(is_whole=is_whole)
        states = removal.states if isinstance(removal, _Idle) else {}
        is_of_author = isinstance(removal, AuthorMessages)
        now = self._passage.now
        writer.begin(ArchivedSession(removal.info, now, rule, is_whole, states, is_of_author))
        digest, first, count = hashlib.sha256(), 0, MESSAGES_PER_READ
        while count == MESSAGES_PER_READ:
            with self._access.outside() as connection:
                found = removal.read(connection, first, MESSAGES_PER_READ)
            for row, message in found:
                digest.update(self._added(writer, message))
                first = row + 1
                if clock.is_over:
                    yield
                    clock.begin()
            count = len(found)
        removal.digest = digest.digest()

    def _added(self, writer: RemovalWriter, message: ChatMessage) -> bytes:
        """The line of a message that was added, without the bytes of its attachments."""
        line = writer.add(self._blobs.filled(message))
        return message_line(message) if message.attachments else line

    def _remove(self, chosen: list[_Removal]) -> Generator[None, None, set[int]]:
        """Delete the candidates that have not changed; returns the places of the others."""
        stayed, waiting, clock = set[int](), deque(enumerate(chosen)), SliceClock()
        while waiting:
            gone: list[tuple[_Removal, int]] = []
            clock.begin()
            with self._access.removing() as connection:
                while waiting and not (gone and clock.is_over):
                    place, removal = waiting.popleft()
                    messages = self._take(connection, removal)
                    if messages is None:
                        stayed.add(place)
                    else:
                        gone.append((removal, messages))
            for removal, messages in gone:
                self._count(removal, messages)
            yield
        return stayed

    def _take(self, connection: apsw.Connection, removal: _Removal) -> int | None:
        """Delete it; None when it has changed since it was chosen, or another rule applies."""
        if not removal.is_whole and is_source(connection, removal.row):
            return None
        now = get_session(connection, removal.info.key)
        if now is None or self._rule_now(removal, now) != removal.rule:
            return None
        return removal.remove(connection, now, self._passage.now)

    def _rule_now(self, removal: _Removal, now: SessionInfo) -> Rule | None:
        if isinstance(removal, AuthorMessages):
            return self._retention.rule_for_author(now.to_dict(), removal.author)
        return self._rule_of(now)

    def _count(self, removal: _Removal, messages: int) -> None:
        info = removal.info
        last_activity = to_micros(info.last_activity)
        self._tally.add(info.key, removal.rule, last_activity, messages, is_whole=removal.is_whole)
