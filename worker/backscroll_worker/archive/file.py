"""One file of the archive: sessions as JSON lines under zstd, and the manifest beside it.

`YYYY-MM/<name>.jsonl.zst` has for each session a header line and then its messages, oldest first:

    {"session":{"key":"…","created_at":micros,…},"removed_at":micros,"rule":"…","part":"whole"}
    {"role":"…","content":"…","extra":{…},"message_id":"…","created_at":micros}

`part` is "oldest" when only these messages were taken from a session that stays.
`<name>.manifest.jsonl` has one line: version, sha256 and size of the file, how many sessions and
messages, the time of the first and the last message, and each key with its number of messages.

A file is never changed in place. A new content is written beside it; then comes a manifest that
tells of both, then the rename, then the manifest of the new one alone. Whichever line has the
checksum of the file is the manifest, so that a crash at any point leaves one that holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple, Self

import orjson
import zstandard

from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll.private_files import sync_path
from backscroll_worker.archive.disk import (
    TEMPORARY,
    ArchiveError,
    replace,
    reporting,
    unusable,
)
from backscroll_worker.contract.archiving import ArchivedSession

VERSION: Final = 1
DATA_SUFFIX: Final = ".jsonl.zst"
MANIFEST_SUFFIX: Final = ".manifest.jsonl"

_HEADER: Final = b'{"session":'
_UNREADABLE: Final = (
    zstandard.ZstdError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
)
_READ_BYTES: Final = 1 << 20


def header(session: ArchivedSession) -> bytes:
    """The line a session begins with."""
    info = {name: value for name, value in session.info.to_dict().items() if value is not None}
    part = "whole" if session.is_whole else "oldest"
    return orjson.dumps(
        {"session": info, "removed_at": session.removed_at, "rule": session.rule, "part": part}
    )


def parse_header(line: bytes) -> ArchivedSession:
    """The inverse of `header`; raises `ValueError`, `TypeError` or `KeyError`."""
    fields = orjson.loads(line)
    info = SessionInfo.from_dict(fields["session"])
    return ArchivedSession(info, fields["removed_at"], fields["rule"], fields["part"] == "whole")


class ArchivedLine(NamedTuple):
    """A line, the session it belongs to, and the message in it; a session's first has none."""

    session: ArchivedSession
    line: bytes
    message: ChatMessage | None


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
            raise ValueError(f"it is no manifest of version {VERSION}")
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
        """Whether it never came so far as to count, or nothing is left in it."""
        if self.data.exists():
            return False
        if self.temporary.exists():
            return True
        with suppress(ArchiveError):
            return self.load_manifest().sessions == 0
        return False

    def load_manifest(self) -> Manifest:
        """The manifest that holds; raises `ArchiveError` when there is none."""
        try:
            lines = [Manifest.loads(line) for line in self.manifest.read_bytes().splitlines()]
        except FileNotFoundError:
            raise ArchiveError(
                f"{self.data} has no manifest; put it back from a backup, or take what is needed "
                "out of the file with zstdcat"
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
            raise ArchiveError(f"{self.manifest} is damaged: it tells of another file")
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
        """Leave nothing in the manifest of a content that has been replaced."""
        line = self.load_manifest().dumps() + b"\n"
        with reporting(self.manifest):
            if self.manifest.read_bytes() != line:
                replace(self.manifest, line)

    def give_up(self) -> None:
        """Remove what was being written."""
        if self.is_unfinished:
            self.remove()  # a manifest goes before the file that shows that it counts for nothing
        with reporting(self.temporary):
            self.temporary.unlink(missing_ok=True)
            sync_path(self.temporary.parent)

    def remove(self) -> None:
        """Remove a file that holds nothing any more."""
        with reporting(self.data):
            self.data.unlink(missing_ok=True)
            sync_path(self.data.parent)
            self.manifest.unlink(missing_ok=True)
            sync_path(self.data.parent)

    def lines(self) -> Iterator[ArchivedLine]:
        """Each line, a session's header first and then its messages.

        Raises `ArchiveError` when the content is not that of an archive.
        """
        session = None
        with reporting(self.data), self.data.open("rb") as file:
            try:
                decompressor = zstandard.ZstdDecompressor()
                for line in BufferedReader(decompressor.stream_reader(file), _READ_BYTES):
                    if line.startswith(_HEADER):
                        session = parse_header(line)
                        yield ArchivedLine(session, line, None)
                    elif session is None:
                        raise ValueError("a message without a session")
                    else:
                        yield ArchivedLine(session, line, _message(line))
            except _UNREADABLE as error:
                raise ArchiveError(f"{self.data} is damaged: {error}") from error


def _message(line: bytes) -> ChatMessage:
    message = ChatMessage.from_dict(orjson.loads(line))
    if message.message_id is None or message.created_at is None:
        raise ValueError("a message without its id or time")
    return message
