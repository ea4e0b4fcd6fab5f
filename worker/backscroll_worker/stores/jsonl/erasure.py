"""Erasure: every session is looked at once, a slice at a time, and the journal goes at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from backscroll.contract.operations import Erase
from backscroll.contract.results import ErasureReceipt
from backscroll_worker.contract.pacing import SliceClock, Slices
from backscroll_worker.stores.jsonl.erasure_ledger import Pending
from backscroll_worker.stores.jsonl.file_names import (
    ASIDE_SUFFIXES,
    MESSAGES_SUFFIX,
    SIDECAR_SUFFIX,
    SessionNames,
    key_of,
    key_of_aside,
    key_told_by,
)
from backscroll_worker.stores.jsonl.lines import may_quote
from backscroll_worker.stores.jsonl.maintenance import Opened, empty_journal
from backscroll_worker.stores.jsonl.write_batch import Group


def erase(opened: Opened, operation: Erase, clock: Callable[[], int]) -> Slices[ErasureReceipt]:
    """Go through what an erasure that was begun has not looked at yet."""
    with opened() as group:
        is_all = operation.key is None or any(
            pending.subject != "key" for pending in group.erasures.pending
        )
        names = deque(group.directory.names(MESSAGES_SUFFIX) if is_all else ())
    slice_clock, unreadable = SliceClock(), 0
    while names:
        slice_clock.begin()
        with opened() as group:
            while names and not slice_clock.is_over:
                key = key_of(group.directory.path / names.popleft())
                if key is not None:
                    session = group.find(key)  # which looks at it
                    is_by_sidecar = operation.subject[0] in ("sender", "room")
                    unreadable += is_by_sidecar and session.sidecar.is_damaged
        yield
    with opened() as group:
        _remove_left(group)
        for pending in group.erasures.pending:
            if pending.subject == "author":
                _remove_quoting(group, pending.value)
        receipt = group.erasures.finish(operation.op_id, group.now)
    yield from empty_journal(opened)
    if receipt is None:  # somebody removed the record of it meanwhile
        receipt = Pending(operation.op_id, *operation.subject, operation.at, clock()).receipt()
    return replace(receipt, finished_at=clock(), unreadable=unreadable)


def _remove_quoting(group: Group, author: str) -> None:
    """Remove lines that may be the author's from what lies beside the sessions."""
    directory = group.directory
    for suffix in ASIDE_SUFFIXES:
        for name in directory.names(suffix):
            content = directory.read(name)
            if content is not None and may_quote(content, author):
                kept = [line for line in content.split(b"\n") if not may_quote(line, author)]
                group.changes.put(name, b"\n".join(kept))


def _remove_left(group: Group) -> None:
    """Remove what lies beside the sessions of the erased, and sidecars without a session."""
    directory, tombstones = group.directory, group.erasures.tombstones
    for suffix in ASIDE_SUFFIXES:
        for name in directory.names(suffix):
            key = key_of_aside(directory.path / name)
            if key is not None and tombstones.moment("key", key) >= 0:
                group.changes.remove(name)
    for name in directory.names(SIDECAR_SUFFIX):
        key = key_told_by(directory.path / name)
        if key is not None and directory.stamp(SessionNames.of(key).messages) is None:
            group.changes.remove(name)
