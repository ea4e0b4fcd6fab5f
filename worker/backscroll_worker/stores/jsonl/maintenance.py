"""Compacting, a slice at a time so that appends need not wait long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from backscroll.contract.results import CompactReport
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.stores.jsonl.file_names import (
    GONE_SUFFIX,
    MESSAGES_SUFFIX,
    SIDECAR_SUFFIX,
    SessionNames,
    key_of,
    key_told_by,
)
from backscroll_worker.stores.jsonl.files import Stamp
from backscroll_worker.stores.jsonl.lines import drop_old
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.sidecar import gone_dumps, gone_loads
from backscroll_worker.stores.jsonl.write_batch import Group

SESSIONS_A_SLICE: Final = 50
BYTES_A_SLICE: Final = 4 * 1024 * 1024
FILES_A_SLICE: Final = 200

Opened = Callable[[], AbstractContextManager[Group]]


def compact(opened: Opened, old: Cutoff, waited: Cutoff) -> Slices[CompactReport]:
    """Drop old op ids and what a crash left of deleted sessions; set what is damaged aside."""
    started = time.monotonic()
    purged, corrupt = 0, 0
    with opened() as group:
        before = group.directory.size_bytes()
        files = group.directory.stamps(MESSAGES_SUFFIX)
        left = group.directory.names(GONE_SUFFIX) + group.directory.names(SIDECAR_SUFFIX)
        purged += group.renames.compact(old)
        group.waiting.compact(waited)
    yield
    for names in _portions(files):
        with opened() as group:
            for session in _sessions(group, names):
                records, lines = session.compact(old)
                purged, corrupt = purged + records, corrupt + lines
        yield
    for start in range(0, len(left), FILES_A_SLICE):
        with opened() as group:
            for name in left[start : start + FILES_A_SLICE]:
                purged += _compact_left(group, name, old)
        yield
    with opened() as group:
        purged += group.erasures.compact(old)
    yield from empty_journal(opened)
    with opened() as group:
        after = group.directory.size_bytes()
    return CompactReport(before, after, purged, corrupt, time.monotonic() - started)


def _compact_left(group: Group, name: str, old: Cutoff) -> int:
    """Compact one file that may outlive its session; how many op ids it lost."""
    directory = group.directory
    if name.endswith(SIDECAR_SUFFIX):
        key = key_told_by(directory.path / name)
        if key is not None and directory.stamp(SessionNames.of(key).messages) is None:
            group.changes.remove(name)
        return 0
    records = gone_loads(directory.read(name))
    purged = drop_old(records, old)
    if not records:
        group.changes.remove(name)
    elif purged:
        group.changes.put(name, gone_dumps(records))
    return purged


def empty_journal(opened: Opened) -> Iterator[None]:
    """Have what was removed leave the journal too."""
    with opened() as group:
        number = group.writer.retire()
        group.activity.flush()
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
