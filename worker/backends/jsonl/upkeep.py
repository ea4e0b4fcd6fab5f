"""Forgetting, compacting and verifying, a slice at a time so that appends need not wait long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from producer.answers import CleanupReport, CompactReport
from worker.backends.base import Finding, Slices
from worker.backends.jsonl.files import Directory, Stamp
from worker.backends.jsonl.group import Group
from worker.backends.jsonl.lines import drop_old
from worker.backends.jsonl.names import (
    EDITED_SUFFIX,
    GONE_SUFFIX,
    MESSAGES_SUFFIX,
    SIDECAR_SUFFIX,
    SessionNames,
    key_of,
    key_told_by,
)
from worker.backends.jsonl.session import Session
from worker.backends.jsonl.sidecar import Sidecar, gone_dumps, gone_loads

SESSIONS_A_SLICE: Final = 50
BYTES_A_SLICE: Final = 4 * 1024 * 1024
FILES_A_SLICE: Final = 200
MAX_REPORTED_KEYS: Final = 1_000

Opened = Callable[[], AbstractContextManager[Group]]


def cleanup(
    opened: Opened, idle_before: int, ttl_hours: float, *, dry_run: bool
) -> Slices[CleanupReport]:
    """Delete idle sessions, the idlest first."""
    started = time.monotonic()
    with opened() as group:
        files = group.directory.stamps(MESSAGES_SUFFIX)
    yield
    idle = [(name, stamp) for name, stamp in files if stamp.mtime < idle_before]
    idle.sort(key=lambda file: file[1].mtime)
    sessions, messages, keys = 0, 0, list[str]()
    for names in _portions(idle):
        with opened() as group:
            # Looked at again: somebody may have written to it meanwhile.
            chosen = [
                session for session in _sessions(group, names) if _is_idle(session, idle_before)
            ]
            sessions += len(chosen)
            messages += sum(session.count for session in chosen)
            keys += [session.key for session in chosen][: MAX_REPORTED_KEYS - len(keys)]
            if not dry_run:
                for session in chosen:
                    session.leave()
        yield
    if not dry_run:
        yield from _empty_journal(opened)
    seconds = time.monotonic() - started
    return CleanupReport(sessions, messages, tuple(keys), ttl_hours, dry_run, seconds)


def compact(opened: Opened, op_ids_before: int) -> Slices[CompactReport]:
    """Drop corrupt lines, old op ids, and what a crash left of deleted sessions."""
    started = time.monotonic()
    purged, corrupt = 0, 0
    with opened() as group:
        before = group.directory.size_bytes()
        files = group.directory.stamps(MESSAGES_SUFFIX)
        left = group.directory.names(GONE_SUFFIX) + group.directory.names(SIDECAR_SUFFIX)
        purged += group.renames.compact(op_ids_before)
    yield
    for names in _portions(files):
        with opened() as group:
            for session in _sessions(group, names):
                records, lines = session.compact(op_ids_before)
                purged, corrupt = purged + records, corrupt + lines
        yield
    for start in range(0, len(left), FILES_A_SLICE):
        with opened() as group:
            for name in left[start : start + FILES_A_SLICE]:
                purged += _compact_left(group, name, op_ids_before)
        yield
    yield from _empty_journal(opened)
    with opened() as group:
        after = group.directory.size_bytes()
    return CompactReport(before, after, purged, corrupt, time.monotonic() - started)


def verify(group: Group) -> list[Finding]:
    """Every file against its own format."""
    directory = group.directory
    findings: list[Finding] = []
    for session in group.sessions():
        findings += _check_session(directory, session)
    for name in directory.names(MESSAGES_SUFFIX):
        if key_of(directory.path / name) is None:
            findings.append(
                Finding(name, "no session has this file name, so it is not shown", "move it away")
            )
    for name in directory.names(GONE_SUFFIX):
        if not gone_loads(directory.read(name)):
            findings.append(
                Finding(name, "op ids of a session that is gone cannot be read", "remove the file")
            )
    findings += [
        Finding(
            name,
            "somebody changed a session's file that was to be replaced or removed",
            "take from it what is needed, then remove it",
        )
        for name in directory.names(EDITED_SUFFIX)
    ]
    return sorted(findings, key=lambda finding: finding.where)


def _check_session(directory: Directory, session: Session) -> list[Finding]:
    name = session.names.messages
    findings = [
        Finding(
            f"{name}:{number}",
            "the line is no message, or a part of an append that broke off",
            "look at it; `backscroll compact` drops it",
        )
        for number in session.transcript.corrupt
    ]
    ids = [line.message.message_id for line in session.lines]
    if len(set(ids)) < len(ids):
        findings.append(Finding(name, "messages have the same id", "remove one of the lines"))
    content = directory.read(session.names.sidecar)
    if content is not None and Sidecar.loads(content, session.key, 0) is None:
        findings.append(
            Finding(
                session.names.sidecar,
                "cannot be read, so the session's attributes are not known",
                "restore it from a backup, or remove it and describe the session again",
            )
        )
    return findings


def _compact_left(group: Group, name: str, op_ids_before: int) -> int:
    """Compact one file that may outlive its session; how many op ids it lost."""
    directory = group.directory
    if name.endswith(SIDECAR_SUFFIX):
        key = key_told_by(directory.path / name)
        if key is not None and directory.stamp(SessionNames.of(key).messages) is None:
            group.changes.remove(name)
        return 0
    records = gone_loads(directory.read(name))
    purged = drop_old(records, op_ids_before)
    if not records:
        group.changes.remove(name)
    elif purged:
        group.changes.put(name, gone_dumps(records))
    return purged


def _empty_journal(opened: Opened) -> Iterator[None]:
    """Have what was removed leave the journal too."""
    with opened() as group:
        number = group.writer.retire()
    while True:
        with opened() as group:
            if group.writer.is_removed(number):
                return
            group.writer.sync_some()
        yield


def _portions(files: Sequence[tuple[str, Stamp]]) -> Iterator[list[str]]:
    """Names of files as many as one slice may read."""
    names, size = list[str](), 0
    for name, stamp in files:
        names.append(name)
        size += stamp.size
        if len(names) == SESSIONS_A_SLICE or size >= BYTES_A_SLICE:
            yield names
            names, size = [], 0
    if names:
        yield names


def _sessions(group: Group, names: Sequence[str]) -> Iterator[Session]:
    """The sessions whose messages are in these files, as far as they are still there."""
    for name in names:
        key = key_of(group.directory.path / name)
        if key is not None and (session := group.find(key)).exists:
            yield session


def _is_idle(session: Session, idle_before: int) -> bool:
    return session.last_activity < idle_before and not session.sidecar.is_pinned
