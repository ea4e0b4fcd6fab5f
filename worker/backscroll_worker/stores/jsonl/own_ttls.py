"""Which sessions have a `ttl_hours` of their own: that is only in their sidecars.

Nearly every session has a sidecar, so cleanup would read as many files as there are sessions, each
time. Each is read once instead, and again when it has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from backscroll.contract.errors import StoreUnavailableError
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, SIDECAR_SUFFIX
from backscroll_worker.stores.jsonl.files import Directory


class OwnTtls:
    """What the sidecars said when they were read; in memory only."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # by a file name's hash that of its stamp
        self._having: set[int] = set()

    def keep_only(self, messages: Iterable[str]) -> None:
        """Forget the sessions that have none of these messages files."""
        left = {_number(name) for name in messages}
        self._known = {number: stamp for number, stamp in self._known.items() if number in left}
        self._having &= left

    def has(self, directory: Directory, messages: str) -> bool:
        """Whether the session of that messages file may have one; False where that is unreadable.

        Such a session goes by the rules alone, and then who reads it reports the error.
        """
        name, number = messages.removesuffix(MESSAGES_SUFFIX) + SIDECAR_SUFFIX, _number(messages)
        with suppress(StoreUnavailableError):
            stamp = hash(directory.stamp(name))
            if self._known.get(number) != stamp:
                has_one = b'"ttl_hours"' in (directory.read(name) or b"")
                (self._having.add if has_one else self._having.discard)(number)
                self._known[number] = stamp
        return number in self._having


def _number(name: str) -> int:
    # Not the name itself: it contains the key, which an erasure has to remove, and is longer.
    return hash(name)
