"""The changes of a group to the files: collected here, then committed together by `writer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from backscroll_worker.stores.jsonl.file_names import damaged_name
from backscroll_worker.stores.jsonl.files import Directory, Stamp


class Addition(NamedTuple):
    """Bytes for the end of a file, and its time afterwards; `before` is its stamp until then."""

    content: bytes
    mtime: int
    before: Stamp


class Replacement(NamedTuple):
    """The whole new content of a file, which is new or has the stamp `before`.

    Without `mtime` its time is that of the write. Without `before` its old version is not compared.
    """

    content: bytes
    mtime: int | None = None
    before: Stamp | None = None


@dataclass(slots=True)
class Changes:
    """At most one per file. Replacements are made in their order, then removals in theirs."""

    additions: dict[str, Addition] = field(default_factory=dict)
    replacements: dict[str, Replacement] = field(default_factory=dict)
    removals: dict[str, Stamp | None] = field(default_factory=dict)
    clock: bytes | None = None
    """The history of the store's clock, if it has to be durable together with these changes."""

    def __bool__(self) -> bool:
        return bool(self.additions or self.replacements or self.removals)

    def put(self, name: str, content: bytes) -> None:
        self.replacements[name] = Replacement(content)

    def set_aside(self, directory: Directory, name: str, content: bytes) -> None:
        """Add damaged content of the file to `<name>.damaged`."""
        aside = damaged_name(name)
        self.put(aside, (directory.read(aside) or b"") + content)

    def remove(self, name: str, before: Stamp | None = None) -> None:
        self.removals[name] = before
