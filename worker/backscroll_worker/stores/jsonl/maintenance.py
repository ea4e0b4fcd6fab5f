"""Compaction and erasure, in slices, so that appends need not wait long."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from backscroll.contract.operations import Erase
from backscroll.contract.results import CompactReport, ErasureReceipt
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.pacing import SliceClock, Slices
from backscroll_worker.stores.jsonl.attachments import remove_unused
from backscroll_worker.stores.jsonl.erasure_ledger import Pending
from backscroll_worker.stores.jsonl.file_names import (
    ASIDE_SUFFIXES,
    GONE_SUFFIX,
    MESSAGES_SUFFIX,
    SIDECAR_SUFFIX,
    SessionNames,
    key_in_sidecar,
    key_of_aside,
)
from backscroll_worker.stores.jsonl.lines import drop_old, dump_records, load_records, may_quote
from backscroll_worker.stores.jsonl.slices import OpenGroup, portions
from backscroll_worker.stores.jsonl.write_batch import Group

FILES_PER_SLICE: Final = 200


def compact(open_group: OpenGroup, old: Cutoff, waited: Cutoff) -> Slices[CompactReport]:
    """Drop expired op ids and changes, remains of deleted sessions; set damaged lines aside."""
    started = time.monotonic()
    purged, corrupt = 0, 0
    with open_group() as group:
        before = group.directory.size_bytes()
        files = group.directory.stamps(MESSAGES_SUFFIX)
        others = group.directory.names(GONE_SUFFIX) + group.directory.names(SIDECAR_SUFFIX)
        purged += group.renames.compact(old)
        group.waiting.compact(waited)
    yield
    for names in portions(files):
        with open_group() as group:
            for session in filter(None, map(group.of_file, names)):
                records, lines = session.compact(old, waited)
                purged, corrupt = purged + records, corrupt + lines
        yield
    for start in range(0, len(others), FILES_PER_SLICE):
        with open_group() as group:
            for name in others[start : start + FILES_PER_SLICE]:
                if name.endswith(GONE_SUFFIX):
                    purged += _compact_op_ids(group, name, old)
                else:
                    _remove_if_stray(group, name)
        yield
    with open_group() as group:
        purged += group.erasures.compact(old)
    yield from empty_journal(open_group)
    removed = yield from remove_unused(open_group)
    with open_group() as group:
        after = group.directory.size_bytes()
    seconds = time.monotonic() - started
    return CompactReport(before, after, purged, corrupt, seconds, blobs_removed=removed.number)


def erase(
    open_group: OpenGroup, operation: Erase, clock: Callable[[], int]
) -> Slices[ErasureReceipt]:
    """Finish an erasure that was applied: check the sessions that it has not checked yet."""
    with open_group() as group:
        is_all = operation.key is None or any(
            pending.subject != "key" for pending in group.erasures.pending
        )
        names = deque(group.directory.names(MESSAGES_SUFFIX) if is_all else ())
    slice_clock, unreadable = SliceClock(), 0
    while names:
        slice_clock.begin()
        with open_group() as group:
            while names and not slice_clock.is_over:
                key = group.key_of(names.popleft())
                if key is not None:
                    session = group.find(key)  # which erases it if necessary
                    is_by_sidecar = operation.subject[0] in ("sender", "room")
                    unreadable += is_by_sidecar and session.sidecar.is_damaged
        yield
    with open_group() as group:
        _remove_remains(group)
        _forget_origins(group)
        for pending in group.erasures.pending:
            if pending.subject == "author":
                _remove_quoting(group, pending.value)
        receipt = group.erasures.finish(operation, group.now)
    yield from empty_journal(open_group)
    yield from remove_unused(open_group)
    if receipt is None:  # its record was removed meanwhile
        pending = Pending(operation.op_id, *operation.subject, operation.at, clock())
        receipt = pending.receipt(operation)
    return replace(receipt, finished_at=clock(), unreadable=unreadable)


def empty_journal(open_group: OpenGroup) -> Iterator[None]:
    """Sync all files, so that the journal, which contains deleted text, can be removed."""
    with open_group() as group:
        number = group.writer.retire()
        group.activity.flush()
    while True:
        with open_group() as group:
            if group.writer.is_removed(number):
                return
            group.writer.sync_some()
        yield


def _compact_op_ids(group: Group, name: str, old: Cutoff) -> int:
    """Compact the op ids of a session that does not exist; returns the number dropped."""
    records = load_records(group.directory.read(name))
    purged = drop_old(records, old)
    if not records:
        group.changes.remove(name)
    elif purged:
        group.changes.put(name, dump_records(records))
    return purged


def _remove_remains(group: Group) -> None:
    """Remove files set aside from erased sessions, and sidecars without a session."""
    directory, tombstones = group.directory, group.erasures.tombstones
    for suffix in ASIDE_SUFFIXES:
        for name in directory.names(suffix):
            key = key_of_aside(directory.path / name)
            if key is not None and tombstones.moment("key", key) >= 0:
                group.changes.remove(name)
    for name in directory.names(SIDECAR_SUFFIX):
        _remove_if_stray(group, name)


def _forget_origins(group: Group) -> None:
    """Remove the keys of erased sessions from their forks."""
    for name in group.directory.names(SIDECAR_SUFFIX):
        if b'"forked_from"' in (group.directory.read(name) or b""):
            key = key_in_sidecar(group.directory.path / name)
            if key is not None and (session := group.find(key)).exists:
                session.forget_origin(group.erasures.tombstones)


def _remove_quoting(group: Group, author: str) -> None:
    """Remove lines that may be the author's from files set aside."""
    directory = group.directory
    for suffix in ASIDE_SUFFIXES:
        for name in directory.names(suffix):
            content = directory.read(name)
            if content is not None and may_quote(content, author):
                kept = [line for line in content.split(b"\n") if not may_quote(line, author)]
                group.changes.put(name, b"\n".join(kept))


def _remove_if_stray(group: Group, sidecar: str) -> None:
    """Remove a sidecar whose session does not exist."""
    key = key_in_sidecar(group.directory.path / sidecar)
    if key is not None and group.directory.stamp(SessionNames.of(key).messages) is None:
        group.changes.remove(sidecar)
