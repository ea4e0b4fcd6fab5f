"""Which sessions have a `ttl_hours` of their own: that is only in their sidecars.

Nearly every session has a sidecar, so cleanup would read as many files as there are sessions, each
time. Each is read once instead, and again when it has changed.
"""

from __future__ import annotations

from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, SIDECAR_SUFFIX
from backscroll_worker.stores.jsonl.files import Directory


class OwnTtls:
    """What the sidecars said when they were read; in memory only."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # by a file name's hash that of its stamp
        self._having: set[int] = set()

    def has(self, directory: Directory, messages: str) -> bool:
        """Whether the session of that messages file may have one."""
        name = messages.removesuffix(MESSAGES_SUFFIX) + SIDECAR_SUFFIX
        number, stamp = hash(name), hash(directory.stamp(name))
        if self._known.get(number) != stamp:
            self._known[number] = stamp
            if b'"ttl_hours"' in (directory.read(name) or b""):
                self._having.add(number)
            else:
                self._having.discard(number)
        return number in self._having
