"""Sessions that are deleted but still have their files, in `.detached.json`, by file name.

A deletion of many sessions only writes their names here, so that what comes after it need not wait.
Whatever opens such a session deletes it first; the others are deleted while nothing waits, and
before a cleanup, a compaction or an erasure (`deleting`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory

_NAME: Final = ".detached.json"  # no key's file begins with a dot


class Detached:
    """The names of the messages files of deleted sessions.

    The file may still have names of files that are gone: it is written anew when half of them are,
    or when one may become a session again.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.names: set[str] = set()
        self._written: set[str] = set()
        self._is_changed = False

    def recover(self) -> None:
        """Start from what the disk says."""
        self._written = load_names(self._directory)
        self.names = set(self._written)
        self._is_changed = False

    def hold(self, names: Iterable[str]) -> None:
        """Have these sessions deleted."""
        self.names.update(names)
        self._is_changed = True

    def take(self, name: str) -> bool:
        """Whether the session with that file is one of them; it is not any more, whoever asks."""
        self._is_changed |= name in self._written
        is_one = name in self.names
        self.names.discard(name)
        return is_one

    def drop(self, name: str) -> None:
        """The session with that file is deleted."""
        self.names.discard(name)

    def stage(self, changes: Changes) -> None:
        gone = len(self._written) - len(self.names)
        if not self._is_changed and (gone == 0 or 2 * gone < len(self._written)):
            return
        self._is_changed = True
        if self.names:
            names = {"version": 1, "names": sorted(self.names)}
            changes.put(_NAME, orjson.dumps(names) + b"\n")
        else:
            changes.remove(_NAME)

    def settle(self) -> None:
        """What was staged is committed."""
        if self._is_changed:
            self._written, self._is_changed = set(self.names), False


def load_names(directory: Directory) -> set[str]:
    """The names, by what the disk says; none when the file cannot be read."""
    try:
        return set(map(str, orjson.loads(directory.read(_NAME) or b"{}").get("names", ())))
    except (ValueError, TypeError, AttributeError):
        return set()
