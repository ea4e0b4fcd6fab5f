"""Cleanup: deletes idle sessions, messages beyond a session's limit, and those due by author.

Each slice checks some sessions and deletes the expired ones at once. With an archive they are
written to it first; when its file is full it is made durable, and what has not changed since is
deleted. A session that was written to meanwhile is active: it is kept, and leaves the archive.

The last activity of each session is on record, so most files are never opened. The number of
messages is not, so files that are large enough to exceed the limit are read, and all of them for
rules that name authors. `own_ttls` knows whose ttl is to be looked at.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from backscroll.contract.messages import SessionInfo, to_micros
from backscroll.contract.results import CleanupReport
from backscroll_worker.contract.archiving import (
    BYTES_PER_FILE,
    REMOVALS_PER_FILE,
    ArchivedSession,
    RemovalArchive,
    RemovalWriter,
)
from backscroll_worker.contract.author_retention import DueMessages
from backscroll_worker.contract.cleanup_tally import Tally
from backscroll_worker.contract.clock import Passage
from backscroll_worker.contract.pacing import SliceClock, Slices, aside
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.contract.states import States
from backscroll_worker.contract.tool_calls import Exchanges
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.jsonl.attachments import remove_unused
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.maintenance import empty_journal
from backscroll_worker.stores.jsonl.own_ttls import OwnTtls
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.slices import OpenGroup
from backscroll_worker.stores.jsonl.write_batch import Group

log = logging.getLogger("backscroll.store")

_MIN_LINE_BYTES: Final = len(b'{"role":"x","content":""}\n')


@dataclass(frozen=True, slots=True)
class _Removal:
    """A whole session, its oldest messages, or those that are due by a rule for authors."""

    info: SessionInfo
    rule: Rule
    messages: int
    is_whole: bool
    digest: bytes
    states: States = field(default_factory=dict)

    def remove(self, session: Session, rules: _Rules) -> bool:
        """Delete it unless the session or its rule has changed; returns whether it was deleted."""
        rule = self.rule
        if not session.exists or session.sidecar.is_kept:
            return False
        if rule.is_for_author:
            lines = rules.due(session).get(rule, [])
        else:
            lines = session.lines[: self.messages]
            if rules.of(session) != rule or not self._still_holds(session):
                return False
        if _digest(lines, rule) != self.digest:
            return False
        if self.is_whole:
            session.leave()
        else:
            session.drop(lines)
        return True

    def _still_holds(self, session: Session) -> bool:
        """Whether the session is idle still, or has too many messages still."""
        if self.is_whole:
            return session.info() == self.info and session.sidecar.states == self.states
        return (
            session.count - self.messages >= (self.rule.keep_messages or 0)
            and _cut(session.lines, self.messages) == self.messages
        )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the rules say of a session at the time of the cleanup."""

    retention: Retention
    passage: Passage

    def of(self, session: Session) -> Rule:
        return self.retention.rule_for(_attributes(session))

    def is_idle(self, ttl_micros: int | None, last_activity: int) -> bool:
        return ttl_micros is not None and self.passage.cutoff(ttl_micros).is_past(last_activity)

    def due(self, session: Session, start: int = 0) -> dict[Rule, list[Line]]:
        """The lines, from number `start` on, that go by the rules for their authors."""
        found = dict[Rule, list[Line]]()
        if self.retention.author_rules:
            due = DueMessages(self.retention, self.passage, _attributes(session))
            for line in session.lines[start:]:
                message = line.message
                at = None if message.created_at is None else to_micros(message.created_at)
                if (rule := due.take(message.author, at)) is not None:
                    found.setdefault(rule, []).append(line)
        return found


class Cleanup:
    """One cleanup."""

    def __init__(
        self,
        open_group: OpenGroup,
        retention: Retention,
        passage: Passage,
        archive: RemovalArchive | None,
        own_ttls: OwnTtls,
        *,
        dry_run: bool,
    ) -> None:
        self._open = open_group
        self._retention = retention
        self._passage = passage
        self._rules = _Rules(retention, passage)
        self._archive = archive
        self._own_ttls = own_ttls
        self._dry_run = dry_run
        self._tally = Tally(retention, passage.now, dry_run)
        self._unreadable = 0

    def slices(self) -> Slices[CleanupReport]:
        """Run the whole cleanup, in slices."""
        waiting = deque[str]()
        with self._open() as group:
            waiting.extend(group.directory.names(MESSAGES_SUFFIX))
            self._own_ttls.keep_only(waiting)
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
                "cleanup skipped %d sessions that may be pinned: their sidecars are unreadable; "
                "'backscroll check' names them",
                self._unreadable,
            )
        if not self._dry_run:
            yield from empty_journal(self._open)
        report = self._tally.report()
        if not self._dry_run and (report.messages or report.capped):
            yield from remove_unused(self._open)
        return report

    def _candidate(self, group: Group, name: str) -> Session | None:
        """The session of this messages file, if it may have expired or exceed its limit."""
        stamp = group.directory.stamp(name)
        if stamp is None:
            return None
        ttl, cap = self._retention.shortest_ttl, self._retention.smallest_cap
        is_idle = self._rules.is_idle(ttl, group.activity.of(name, stamp, group.now))
        may_exceed = cap is not None and stamp.size > cap * _MIN_LINE_BYTES
        if (
            is_idle
            or may_exceed
            or self._retention.author_rules
            or self._own_ttls.has(group.directory, name)
        ):
            return group.of_file(name)
        return None

    def _choose_in_slice(
        self, group: Group, waiting: deque[str]
    ) -> Iterator[tuple[Session, _Removal, list[Line]]]:
        """Check the sessions of a slice, and yield what is to be deleted, with its lines."""
        clock = SliceClock()
        while waiting and not clock.is_over:
            session = self._candidate(group, waiting.popleft())
            if session is not None:
                for rule, is_whole, lines in self._choose(session):
                    states = dict(session.sidecar.states) if is_whole else {}
                    yield (
                        session,
                        _Removal(
                            session.info(), rule, len(lines), is_whole, _digest(lines, rule), states
                        ),
                        lines,
                    )

    def _remove_at_once(self, waiting: deque[str]) -> Generator[None]:
        while waiting:
            removed: list[_Removal] = []
            with self._open() as group:
                for session, removal, _ in self._choose_in_slice(group, waiting):
                    if not self._dry_run:
                        removal.remove(session, self._rules)
                    removed.append(removal)
            self._count(removed)
            yield

    def _archive_and_remove(self, archive: RemovalArchive, waiting: deque[str]) -> Generator[None]:
        """Archive and delete as many as fit into one file."""
        writer, chosen = archive.begin(), list[_Removal]()
        try:
            while (
                waiting and len(chosen) < REMOVALS_PER_FILE and writer.size_bytes < BYTES_PER_FILE
            ):
                with self._open() as group:
                    blobs = group.directory.blobs
                    found = list(self._choose_in_slice(group, waiting))
                for _, removal, lines in found:
                    yield from self._write(writer, removal, lines, blobs)
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

    def _choose(self, session: Session) -> list[tuple[Rule, bool, list[Line]]]:
        """What is to be deleted of it: by which rule, whether as a whole, and which lines."""
        if session.sidecar.is_pinned:
            return []
        if session.sidecar.is_damaged:
            self._unreadable += 1
            return []
        rule, count = self._rules.of(session), 0
        if self._rules.is_idle(rule.ttl_micros, session.last_activity):
            return [(rule, True, session.lines)]
        if rule.keep_messages is not None and session.count > rule.keep_messages:
            count = _cut(session.lines, session.count - rule.keep_messages)
        oldest = [(rule, False, session.lines[:count])] if count else []
        of_authors = self._rules.due(session, count).items()
        return oldest + [(of_author, False, lines) for of_author, lines in of_authors]

    def _write(
        self, writer: RemovalWriter, removal: _Removal, lines: list[Line], blobs: Blobs
    ) -> Generator[None]:
        rule, now, clock = removal.rule, self._passage.now, SliceClock()
        writer.begin(
            ArchivedSession(
                removal.info,
                now,
                rule.name_of(is_whole=removal.is_whole),
                removal.is_whole,
                removal.states,
                rule.is_for_author,
            )
        )
        for line in lines:
            writer.add(blobs.filled(line.with_edits()))
            if clock.is_over:
                yield
                clock.begin()

    def _remove(self, chosen: list[_Removal]) -> Generator[None, None, set[int]]:
        """Delete what has not changed since it was chosen; returns the indexes of the others."""
        stayed, waiting, clock = set[int](), deque(enumerate(chosen)), SliceClock()
        while waiting:
            removed: list[_Removal] = []
            clock.begin()
            with self._open() as group:
                while waiting and not clock.is_over:
                    place, removal = waiting.popleft()
                    session = group.find(removal.info.key)
                    if removal.remove(session, self._rules):
                        removed.append(removal)
                    else:
                        stayed.add(place)
            self._count(removed)
            yield
        return stayed

    def _count(self, removed: list[_Removal]) -> None:
        for removal in removed:
            info = removal.info
            last_activity = to_micros(info.last_activity)
            self._tally.add(
                info.key, removal.rule, last_activity, removal.messages, is_whole=removal.is_whole
            )


def _attributes(session: Session) -> dict[str, Any]:
    return {**session.sidecar.attributes, "key": session.key}


def _digest(lines: list[Line], rule: Rule) -> bytes:
    if rule.is_for_author:  # a line is written anew when others of its operation go
        written = [orjson.dumps(line.with_edits().to_dict()) for line in lines]
    else:
        written = [line.raw for line in lines]
    return hashlib.sha256(b"\n".join(written)).digest()


def _cut(lines: list[Line], count: int) -> int:
    """The number of oldest lines to delete, at most `count`, so that no call loses its result."""
    exchanges = Exchanges()
    for place, line in enumerate(lines):
        exchanges.take(place, line.message.extra)
    return exchanges.cut_at_most(count)
