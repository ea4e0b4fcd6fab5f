"""Cleanup: sessions that have been idle for too long, and messages beyond what a session may keep.

As many as a slice has time for are looked at, and go at once. With an archive they are written
there first; when the file is full it is made durable, and what is still as it was then goes. A
session that was written to meanwhile is active: it stays, and leaves the archive again.

When a session was last active is on record, so most files are never opened. No file tells how many
messages it holds, so those that are large enough for too many are read.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from backscroll.contract.messages import SessionInfo, to_micros
from backscroll.contract.results import CleanupReport
from backscroll_worker.contract.archiving import ArchivedSession, RemovalArchive, RemovalWriter
from backscroll_worker.contract.cleanup_tally import Tally
from backscroll_worker.contract.clock import Passage
from backscroll_worker.contract.pacing import SliceClock, Slices, aside
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.contract.tool_calls import Exchanges
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, key_of
from backscroll_worker.stores.jsonl.files import Stamp
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.maintenance import Opened, empty_journal
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.write_batch import Group

log = logging.getLogger("backscroll.store")

REMOVALS_A_FILE: Final = 500
BYTES_A_FILE: Final = 32 * 1024 * 1024
_LEAST_LINE: Final = len(b'{"role":"x","content":""}\n')


@dataclass(frozen=True, slots=True)
class _Removal:
    """A whole session, or its oldest messages."""

    info: SessionInfo
    rule: Rule
    messages: int
    is_whole: bool
    digest: bytes

    def remove(self, session: Session, rule: Rule) -> bool:
        """Take it away, if it is still as it was chosen and under that rule; whether it was."""
        if not session.exists or session.sidecar.is_kept or rule is not self.rule:
            return False
        if self.is_whole:
            if _info(session) != self.info or _digest(session.lines) != self.digest:
                return False
            session.leave()
            return True
        lines = session.lines[: self.messages]
        if session.count - self.messages < (rule.keep_messages or 0):
            return False
        if _digest(lines) != self.digest or _cut(session.lines, self.messages) != self.messages:
            return False
        session.drop_oldest(self.messages)
        return True


class Cleanup:
    """One cleanup."""

    def __init__(
        self,
        opened: Opened,
        retention: Retention,
        passage: Passage,
        archive: RemovalArchive | None,
        *,
        dry_run: bool,
    ) -> None:
        self._opened = opened
        self._retention = retention
        self._passage = passage
        self._archive = archive
        self._dry_run = dry_run
        self._tally = Tally(retention, passage.now, dry_run)
        self._unreadable = 0

    def slices(self) -> Slices[CleanupReport]:
        """Do all of it."""
        waiting = deque[str]()
        if self._retention.shortest_ttl is not None or self._retention.smallest_cap is not None:
            with self._opened() as group:
                waiting.extend(group.directory.names(MESSAGES_SUFFIX))
                if not self._dry_run:
                    group.activity.keep_only(waiting)
            yield
        if self._archive is None or self._dry_run:
            yield from self._remove_at_once(waiting)
        else:
            self._archive.sweep()
            while waiting:
                yield from self._archive_and_remove(self._archive, waiting)
        if self._unreadable:
            log.warning(
                "cleanup left %d sessions alone that may be pinned: their sidecars cannot be read; "
                "'backscroll check' names them",
                self._unreadable,
            )
        if not self._dry_run:
            yield from empty_journal(self._opened)
        return self._tally.report()

    def _candidate(self, group: Group, name: str) -> Session | None:
        """The session whose messages are in this file, if anything of it might have to go."""
        stamp = group.directory.stamp(name)
        if stamp is None or not self._may_go(stamp, group.activity.of(name, stamp, group.now)):
            return None
        key = key_of(group.directory.path / name)
        session = None if key is None else group.find(key)
        return session if session is not None and session.exists else None

    def _may_go(self, stamp: Stamp, last_activity: int) -> bool:
        ttl, cap = self._retention.shortest_ttl, self._retention.smallest_cap
        is_old = self._is_idle(ttl, last_activity)
        return is_old or (cap is not None and stamp.size > cap * _LEAST_LINE)

    def _remove_at_once(self, waiting: deque[str]) -> Generator[None]:
        clock = SliceClock()
        while waiting:
            gone: list[_Removal] = []
            clock.begin()
            with self._opened() as group:
                while waiting and not clock.is_over:
                    session = self._candidate(group, waiting.popleft())
                    removal = self._choose(session)
                    if session is not None and removal is not None:
                        if not self._dry_run:
                            removal.remove(session, removal.rule)
                        gone.append(removal)
            self._count(gone)
            yield

    def _archive_and_remove(self, archive: RemovalArchive, waiting: deque[str]) -> Generator[None]:
        """Deal with as much as one file takes."""
        writer, clock, chosen = archive.begin(), SliceClock(), list[_Removal]()
        try:
            while waiting and len(chosen) < REMOVALS_A_FILE and writer.size_bytes < BYTES_A_FILE:
                clock.begin()
                with self._opened() as group:
                    while waiting and not clock.is_over:
                        session = self._candidate(group, waiting.popleft())
                        removal = self._choose(session)
                        if session is not None and removal is not None:
                            self._write(writer, session, removal)
                            chosen.append(removal)
                yield
            if chosen:
                yield from aside(writer.publish)
                yield
        finally:
            writer.abandon()
        stayed = yield from self._remove(chosen)
        if stayed:
            yield from archive.drop_slices(writer.file, stayed)

    def _choose(self, session: Session | None) -> _Removal | None:
        if session is None or session.sidecar.is_pinned:
            return None
        if session.sidecar.is_damaged:
            self._unreadable += 1
            return None
        rule = self._rule(session)
        if self._is_idle(rule.ttl_micros, session.last_activity):
            lines = session.lines
            return _Removal(_info(session), rule, len(lines), True, _digest(lines))
        if rule.keep_messages is not None and session.count > rule.keep_messages:
            count = _cut(session.lines, session.count - rule.keep_messages)
            if count:
                digest = _digest(session.lines[:count])
                return _Removal(_info(session), rule, count, False, digest)
        return None

    def _is_idle(self, ttl_micros: int | None, last_activity: int) -> bool:
        return ttl_micros is not None and self._passage.cutoff(ttl_micros).is_past(last_activity)

    def _rule(self, session: Session) -> Rule:
        return self._retention.rule_for({**session.sidecar.attributes, "key": session.key})

    def _write(self, writer: RemovalWriter, session: Session, removal: _Removal) -> None:
        writer.begin(
            ArchivedSession(removal.info, self._passage.now, removal.rule.name, removal.is_whole)
        )
        for line in session.lines[: removal.messages]:
            writer.add(line.with_edits())

    def _remove(self, chosen: list[_Removal]) -> Generator[None, None, set[int]]:
        """Remove what is still as it was chosen; returns the places of what is not."""
        stayed, waiting, clock = set[int](), deque(enumerate(chosen)), SliceClock()
        while waiting:
            gone: list[_Removal] = []
            clock.begin()
            with self._opened() as group:
                while waiting and not clock.is_over:
                    place, removal = waiting.popleft()
                    session = group.find(removal.info.key)
                    if removal.remove(session, self._rule(session)):
                        gone.append(removal)
                    else:
                        stayed.add(place)
            self._count(gone)
            yield
        return stayed

    def _count(self, gone: list[_Removal]) -> None:
        for removal in gone:
            info = removal.info
            last_activity = to_micros(info.last_activity)
            self._tally.add(
                info.key, removal.rule, last_activity, removal.messages, is_whole=removal.is_whole
            )


def _info(session: Session) -> SessionInfo:
    return session.sidecar.info(session.last_activity, session.count)


def _digest(lines: list[Line]) -> bytes:
    return hashlib.sha256(b"\n".join([line.raw for line in lines])).digest()


def _cut(lines: list[Line], count: int) -> int:
    """How many of the oldest lines may go, if `count` should, and no call without its result."""
    exchanges = Exchanges()
    for place, line in enumerate(lines):
        exchanges.take(place, line.message.extra)
    return exchanges.cut_at_most(count)
