"""What a group does to the files: collected here first, then committed together by `writer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from backscroll_worker.stores.jsonl.files import Stamp


class Addition(NamedTuple):
    """Bytes for the end of the file that `before` was taken of, and the time it then bears."""

    content: bytes
    mtime: int
    before: Stamp


class Replacement(NamedTuple):
    """A whole new content, for a file that is new or the one that `before` was taken of.

    Without a time the file has that of its writing. Without `before` nobody asks what was there.
    """

    content: bytes
    mtime: int | None = None
    before: Stamp | None = None


@dataclass(slots=True)
class Changes:
    """At most one for each file. Replacements are made in their order, then removals in theirs."""

    additions: dict[str, Addition] = field(default_factory=dict)
    replacements: dict[str, Replacement] = field(default_factory=dict)
    removals: dict[str, Stamp | None] = field(default_factory=dict)
    clock: bytes | None = None
    """What is remembered of the store's clock, where that has to be known with these changes."""

    def __bool__(self) -> bool:
        return bool(self.additions or self.replacements or self.removals)

    def add(self, name: str, addition: Addition) -> None:
        self.additions[name] = addition

    def put(self, name: str, content: bytes) -> None:
        self.replacements[name] = Replacement(content)

    def replace(self, name: str, replacement: Replacement) -> None:
        self.replacements[name] = replacement

    def remove(self, name: str, before: Stamp | None = None) -> None:
        self.removals[name] = before
