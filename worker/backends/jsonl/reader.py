"""Reads one session's files as they lie, without opening a store: for migration.

It takes our files and the original's, which have only messages, with only role and content.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from producer.errors import InvalidInputError
from producer.messages import ChatMessage
from worker.backends.jsonl.activity import NAME as ACTIVITY
from worker.backends.jsonl.activity import Activity
from worker.backends.jsonl.files import Directory, Stamp, naming
from worker.backends.jsonl.names import SessionNames, key_of
from worker.backends.jsonl.sidecar import Attributes, Sidecar
from worker.backends.jsonl.transcript import parse, stream


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A session as `ImportSession` takes it, and the numbers of the lines that are corrupt.

    Every message has an id and a time: the line's own, or an id that follows from the key and the
    place in the file, and the session's `created_at`; and its earlier versions. Times are
    microseconds since 1970 UTC.
    """

    key: str
    messages: tuple[ChatMessage, ...]
    corrupt_lines: tuple[int, ...]
    attributes: Attributes
    created_at: int
    last_activity: int
    turn_started_at: int | None
    sha256: str
    """Of the file's content."""


def read_session_file(path: Path) -> SessionFile:
    """The session whose messages are in `path`; lines that are no messages are left out.

    Raises `InvalidInputError` when no session has a file of that name (`key_of` gives None), and
    `StoreUnavailableError` when it cannot be read.
    """
    key = key_of(path)
    if key is None:
        raise InvalidInputError("path", f"{path} has no session's file name")
    sidecar_path = path.with_name(SessionNames.of(key).sidecar)
    with naming(path):
        modified = _last_activity(path)
        content = path.read_bytes()
        told = sidecar_path.read_bytes() if sidecar_path.exists() else b""
    sidecar = Sidecar.loads(told, key, modified) or Sidecar(key, modified)
    lines = (transcript := parse(content, key, sidecar.created_at)).lines
    has_edits = b'"edits"' in content
    return SessionFile(
        key,
        tuple([line.with_edits() if has_edits else line.message for line in lines]),
        tuple(transcript.corrupt),
        sidecar.attributes,
        sidecar.created_at,
        modified,
        sidecar.turn_started_at,
        hashlib.sha256(content).hexdigest(),
    )


def _last_activity(path: Path) -> int:
    """By the store's own record, if there is one, or else the file's time."""
    directory = Directory(path.parent)
    stamp = Stamp.of(path.stat())
    record = _activity(path.parent, directory.stamp(ACTIVITY))
    return record.of(path.name, stamp, stamp.mtime)


@functools.lru_cache(maxsize=1)
def _activity(directory: Path, _stamp: Stamp | None) -> Activity:
    """Read once for all files of a directory, as long as the record is the same."""
    return Activity(Directory(directory), read_only=True)


def stream_messages(path: Path, key: str, default_time: int) -> Iterator[ChatMessage]:
    """The messages in `path` with their edits, one after the other; none when it is not there."""
    with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
        for line in stream(file, key, default_time):
            yield line.with_edits()
