"""One file of the archive: an export under Zstandard, and the manifest beside it.

`YYYY-MM/<name>.jsonl.zst` is an export with the removals in it, see `contract.interchange`. Any
other export may be in its place. `<name>.manifest.jsonl` has one line: version, sha256 and size of
the file, how many sessions and messages, the time of the first and the last message, and each key
with its number of messages.

A file is never changed in place. A new content is written beside it; then comes a manifest with a
line for each of the two, then the rename, then the manifest of the new one alone. Whichever line
has the checksum of the file is the manifest, so that a crash at any point leaves a valid one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import orjson
from zstandard import ZstdError

from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.private_files import sync_path
from backscroll_worker.archive.disk import (
    TEMPORARY,
    ArchiveError,
    replace,
    reporting,
    unusable,
)
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.interchange import (
    BadLineError,
    numbered_lines,
    read_lines,
    unpacked,
)

VERSION: Final = 1
DATA_SUFFIX: Final = ".jsonl.zst"
MANIFEST_SUFFIX: Final = ".manifest.jsonl"


ArchivedLine = tuple[ArchivedSession, bytes, ChatMessage | None]
"""The session a line belongs to, the line, and the message in it; a session's first has none."""


@dataclass(slots=True)
class Manifest:
    """What a file holds. `since` and `until` are microseconds, None without any message."""

    sha256: str = ""
    size_bytes: int = 0
    sessions: int = 0
    messages: int = 0
    since: int | None = None
    until: int | None = None
    keys: dict[str, int] = field(default_factory=dict)

    def count_session(self, key: str) -> None:
        self.sessions += 1
        self.keys.setdefault(key, 0)

    def count_message(self, key: str, message: ChatMessage) -> None:
        self.messages += 1
        self.keys[key] += 1
        if message.created_at is None:
            return
        at = to_micros(message.created_at)
        self.since = at if self.since is None else min(at, self.since)
        self.until = at if self.until is None else max(at, self.until)

    def dumps(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return orjson.dumps({"version": VERSION, **fields})

    @classmethod
    def loads(cls, line: bytes) -> Self:
        """The inverse of `dumps`; raises `ValueError` for anything else."""
        fields = orjson.loads(line)
        if not isinstance(fields, dict) or fields.pop("version", None) != VERSION:
            raise ValueError(f"it is not a manifest of version {VERSION}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(str(error)) from None


class ArchiveFile:
    """The places of one file and its manifest; `name` is relative, without a suffix."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.data = root / f"{name}{DATA_SUFFIX}"
        self.manifest = root / f"{name}{MANIFEST_SUFFIX}"
        self.temporary = self.data.with_name(TEMPORARY + self.data.name)

    @property
    def is_unfinished(self) -> bool:
        """Whether it was never published, or nothing is left in it."""
        if self.data.exists():
            return False
        if self.temporary.exists():
            return True
        with suppress(ArchiveError):
            return self.load_manifest().sessions == 0
        return False

    def load_manifest(self) -> Manifest:
        """The valid manifest; raises `ArchiveError` when there is none."""
        try:
            lines = [Manifest.loads(line) for line in self.manifest.read_bytes().splitlines()]
        except FileNotFoundError:
            raise ArchiveError(
                f"{self.data} has no manifest; put it back from a backup, or import the "
                "sessions of the file with 'backscroll import'"
            ) from None
        except OSError as error:
            raise unusable(self.manifest, error) from error
        except ValueError as error:
            raise ArchiveError(
                f"{self.manifest} is damaged: {error}; put it back from a backup"
            ) from None
        if len(lines) > 1:
            sha256 = self.sha256()
            lines = [line for line in lines if line.sha256 == sha256]
        if not lines:
            raise ArchiveError(f"{self.manifest} is damaged: it belongs to another file")
        return lines[0]

    def sha256(self) -> str:
        """The checksum of the data as it is on the disk."""
        with reporting(self.data), self.data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self) -> Manifest:
        """The manifest, if the data are what it says; raises `ArchiveError` if not."""
        manifest = self.load_manifest()
        if self.sha256() != manifest.sha256:
            raise ArchiveError(
                f"{self.data} is damaged: its SHA-256 is not the manifest's; "
                "put it back from a backup"
            )
        return manifest

    def settle(self) -> None:
        """Remove from the manifest what it has of a content that was replaced."""
        line = self.load_manifest().dumps() + b"\n"
        with reporting(self.manifest):
            if self.manifest.read_bytes() != line:
                replace(self.manifest, line)

    def give_up(self) -> None:
        """Remove what was being written."""
        if self.is_unfinished:
            self.remove()  # the manifest goes before the file that shows that it was unfinished
        with reporting(self.temporary):
            self.temporary.unlink(missing_ok=True)
            sync_path(self.temporary.parent)

    def remove(self) -> None:
        """Remove the file, of which nothing is needed any more, and its manifest."""
        with reporting(self.data):
            self.data.unlink(missing_ok=True)
            sync_path(self.data.parent)
            self.manifest.unlink(missing_ok=True)
            sync_path(self.data.parent)

    def lines(self) -> Iterator[ArchivedLine]:
        """Each line, a session's first and then those of its messages.

        Raises `ArchiveError` when the content is not that of an archive or an export.
        """
        session = None
        with reporting(self.data), self.data.open("rb") as file:
            try:
                for number, raw, value in read_lines(numbered_lines(unpacked(file))):
                    if isinstance(value, ArchivedSession):
                        session = value
                        yield session, raw, None
                    elif isinstance(value, ChatMessage) and session is not None:
                        yield session, raw, value
                    elif isinstance(value, BadLineError):
                        raise ArchiveError(f"{self.data} is damaged: line {number}: {value}")
            except ZstdError as error:
                raise ArchiveError(f"{self.data} is damaged: {error}") from None
