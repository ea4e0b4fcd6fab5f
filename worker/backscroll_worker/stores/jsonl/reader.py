"""Reads one session's files without opening a store: for migration.

The files are a JSONL store's or the original's, which have only messages, with role and content.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage, to_micros
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.states import States
from backscroll_worker.stores.jsonl.activity import NAME as ACTIVITY
from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, as_utf8
from backscroll_worker.stores.jsonl.file_names import SessionNames, key_of
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.sidecar import Attributes, Sidecar
from backscroll_worker.stores.jsonl.transcript import Damage, parse, stream


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A session as `ImportSession` takes it, and the unreadable parts of its file.

    Every message has its earlier versions, an id and a time: those of the line, or an id that
    follows from the key and the offset in the file, and the session's `created_at`. Times are
    microseconds since 1970 UTC.
    """

    key: str
    messages: tuple[ChatMessage, ...]
    damage: tuple[Damage, ...]
    attributes: Attributes
    created_at: int
    last_activity: int
    turn_started_at: int | None
    turn_expires_at: int | None
    states: States
    sha256: str
    """Of the file's content."""
    stamp: Stamp
    """Of the file after it was read."""
    has_damaged_sidecar: bool


def read_session_file(path: Path) -> SessionFile:
    """The session with the messages file `path`.

    Raises `InvalidInputError` if no session has a file of that name (`key_of` returns None) or it
    is not a file, and `StoreUnavailableError` if it is unreadable.
    """
    key = key_of(path)
    if key is None:
        raise InvalidInputError("path", f"{path} is not the file name of a session")
    sidecar_path = path.with_name(SessionNames.of(key).sidecar)
    with naming(path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise InvalidInputError("path", f"{path} is not a file")
        with path.open("rb") as file:
            content = file.read()
            stamp = Stamp.of(os.fstat(file.fileno()))
        described = sidecar_path.read_bytes() if sidecar_path.exists() else None
    modified, is_recorded = _last_activity(path, stamp)
    loaded = None if described is None else Sidecar.loads(described, key, modified)
    sidecar = loaded or Sidecar(key, modified)
    lines = (transcript := parse(content, key, sidecar.created_at)).lines
    has_edits = b'"edits"' in content
    times = [to_micros(time) for line in lines if (time := line.message.created_at)]
    now = now_micros()
    sent = [] if is_recorded else [time for time in times if time <= now]
    return SessionFile(
        key,
        tuple([line.with_edits() if has_edits else line.message for line in lines]),
        tuple(transcript.damage),
        sidecar.attributes,
        sidecar.created_at if loaded else min([modified, *times]),
        max([modified, *sent]),
        sidecar.turn_started_at,
        sidecar.turn_expires_at,
        sidecar.states,
        hashlib.sha256(content).hexdigest(),
        stamp,
        described is not None and loaded is None,
    )


def _last_activity(path: Path, stamp: Stamp) -> tuple[int, bool]:
    """The session's last activity, and whether it is from the store's record or the file's time."""
    directory = Directory(path.parent)
    record = _activity(path.parent, directory.stamp(ACTIVITY))
    return record.of(path.name, stamp, stamp.mtime), not record.is_new


@functools.lru_cache(maxsize=1)
def _activity(directory: Path, _stamp: Stamp | None) -> Activity:
    """The record of a directory, read again only if it has changed."""
    return Activity(Directory(directory), read_only=True)


def stream_messages(path: Path, key: str, default_time: int) -> Iterator[ChatMessage]:
    """Yield the messages in `path` with their earlier versions; none if it does not exist."""
    with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
        for line in stream(_in_utf8(file), key, default_time):
            yield line.with_edits()


def _in_utf8(file: BinaryIO) -> Iterable[bytes]:
    """The file's lines. A file in another encoding, which is never large, is read at once."""
    start = file.read(ENCODING_BYTES)
    file.seek(0)
    return file if as_utf8(start) is start else BytesIO(as_utf8(file.read()))
