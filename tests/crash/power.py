"""A power cut: of what was not synced, some is on the disk and some is not.

Writes to one file may reach the disk in any order before they are synced; creations, renames and
removals in theirs. A page of 4096 bytes or a sector of 512 may be torn off in the middle.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.crash.disk import Disk

_SECTOR: Final = 512

# Those that `watch` has not replaced.
_open, _pwrite, _ftruncate = os.open, os.pwrite, os.ftruncate


@dataclass(slots=True)
class _Change:
    descriptor: int
    offset: int
    old: bytes
    new: bytes | None  # None is a truncation at `offset`
    size: int

    def undo(self) -> None:
        if self.old:
            _pwrite(self.descriptor, self.old, self.offset)
        if self.new is not None:
            _ftruncate(self.descriptor, self.size)

    def redo(self, rng: random.Random) -> None:
        if self.new is None:
            _ftruncate(self.descriptor, self.offset)
            return
        length = len(self.new)
        if rng.random() < 0.3:  # torn
            length = rng.randrange(0, length + 1, _SECTOR)
        _pwrite(self.descriptor, self.new[:length], self.offset)


class PowerCut(Disk):
    """Pulls the plug at the `step`th call. The files then are as a disk might have them."""

    def __init__(self, step: int, seed: int) -> None:
        self._left = step
        self._random = random.Random(seed)
        self._changes: dict[tuple[int, int], list[_Change]] = {}
        # Never closed: with any descriptor of a file, SQLite's locks on it would go.
        self._descriptors: dict[tuple[int, int], int] = {}
        self._names: list[tuple[tuple[int, int], Callable[[], object]]] = []

    def before(self, call: str, half: Callable[[], object]) -> None:
        self._left -= 1
        if self._left == 0:
            self._pull_the_plug()

    def wrote(self, descriptor: int, offset: int, old: bytes, new: bytes, size: int) -> None:
        self._note(_Change(self._own(descriptor), offset, old, new, size))

    def cut(self, descriptor: int, size: int, old: bytes) -> None:
        self._note(_Change(self._own(descriptor), size, old, None, size + len(old)))

    def synced(self, descriptor: int) -> None:
        synced = _identity(os.fstat(descriptor))
        self._changes.pop(synced, None)
        self._names = [(directory, undo) for directory, undo in self._names if directory != synced]

    def named(self, path: str, undo: Callable[[], object]) -> None:
        self._names.append((_identity(os.stat(os.path.dirname(path) or ".")), undo))  # noqa: PTH116, PTH120

    def _note(self, change: _Change) -> None:
        self._changes.setdefault(_identity(os.fstat(change.descriptor)), []).append(change)

    def _own(self, descriptor: int) -> int:
        """The same file, open to write anywhere: the other may only append."""
        file = _identity(os.fstat(descriptor))
        if file not in self._descriptors:
            self._descriptors[file] = _open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
        return self._descriptors[file]

    def _pull_the_plug(self) -> None:
        for changes in self._changes.values():
            for change in reversed(changes):
                change.undo()
            for change in changes:
                if self._random.random() < 0.5:
                    change.redo(self._random)
        lost = self._random.randint(0, len(self._names))
        for _, undo in reversed(self._names[len(self._names) - lost :]):
            undo()
        os.kill(os.getpid(), signal.SIGKILL)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
