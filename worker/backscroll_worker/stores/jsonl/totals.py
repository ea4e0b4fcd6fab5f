"""The totals of a directory, without reading unchanged files again."""

from __future__ import annotations

import os
from typing import NamedTuple

from backscroll_worker.contract.findings import Totals
from backscroll_worker.stores.jsonl.detached import load_names
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, key_of
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.transcript import stream
from backscroll_worker.stores.jsonl.waiting import count_waiting


class _Counted(NamedTuple):
    """A messages file as it was when its messages were counted."""

    stamp: Stamp
    messages: int
    ends_line: bool


class Counts:
    """The number of messages in each file, cached as long as its inode, size and time are the same.

    Of a file that has grown only the new part is read; a rewritten one is a new inode.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._by_name: dict[str, _Counted | None] = {}

    def totals(self) -> Totals:
        """The current totals."""
        size, before, self._by_name = 0, self._by_name, {}
        detached = load_names(self._directory)
        with naming(self._directory.path), os.scandir(self._directory.path) as entries:
            for entry in entries:
                try:
                    stamp = Stamp.of(entry.stat())
                except FileNotFoundError:
                    continue
                size += stamp.size
                if entry.name.endswith(MESSAGES_SUFFIX) and entry.name not in detached:
                    counted = self._count(entry.name, stamp, before)
                    self._by_name[entry.name] = counted
        found = [counted for counted in self._by_name.values() if counted is not None]
        times = [counted.stamp.mtime for counted in found]
        return Totals(
            len(found),
            sum(counted.messages for counted in found),
            size,
            min(times, default=None),
            max(times, default=None),
            count_waiting(self._directory),
            *self._directory.blobs.totals(),
        )

    def _count(
        self, name: str, stamp: Stamp, before: dict[str, _Counted | None]
    ) -> _Counted | None:
        """The count of a file; None if it is not a session's."""
        known = before.get(name)
        if known is not None and known.stamp == stamp:
            return known
        if name in before and known is None:
            return None
        key = key_of(self._directory.path / name)
        if key is None:
            return None
        has_grown = (
            known is not None
            and known.ends_line
            and known.stamp.inode == stamp.inode
            and known.stamp.size < stamp.size
        )
        start, messages = (known.stamp.size, known.messages) if known and has_grown else (0, 0)
        return self._counted(name, key, stamp, start, messages)

    def _counted(
        self, name: str, key: str, stamp: Stamp, start: int, messages: int
    ) -> _Counted | None:
        path = self._directory.path / name
        with naming(path):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    messages += sum(1 for _ in stream(file, key, 0))
                    file.seek(max(0, stamp.size - 1))
                    return _Counted(stamp, messages, file.read(1) in (b"", b"\n"))
            except FileNotFoundError:
                return None
