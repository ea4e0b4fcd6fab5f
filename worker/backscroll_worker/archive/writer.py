"""Writes one file of the archive: whole and durable, or not at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Final

import orjson
import zstandard

from backscroll.contract.messages import ChatMessage
from backscroll.private_files import open_private, sync_path, write_all
from backscroll_worker.archive.disk import (
    ArchiveError,
    make_directory,
    replace,
    reporting,
)
from backscroll_worker.archive.file import ArchiveFile, Manifest, header
from backscroll_worker.contract.archiving import ArchivedSession

_LEVEL: Final = 3


class ArchiveWriter:
    """Writes a file; nothing of it counts until `publish`, and `abandon` leaves nothing."""

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self.manifest = Manifest()
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._key = ""
        self._descriptor = -1  # a writer that gets nothing leaves no trace
        self._compressor = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compressobj()

    def begin(self, session: ArchivedSession) -> None:
        """What is added from here on belongs to `session`."""
        self._key = session.info.key
        self.manifest.count_session(self._key)
        self._write(header(session) + b"\n")

    def add(self, message: ChatMessage) -> bytes:
        """A message of the session, later than those before; the line it becomes."""
        line = orjson.dumps(message.to_dict()) + b"\n"
        self.copy(line, message)
        return line

    def copy(self, line: bytes, message: ChatMessage) -> None:
        """A message of the session as a line of another file."""
        self.manifest.count_message(self._key, message)
        self._write(line)

    def publish(self) -> None:
        """Make the file durable and visible, in the place of any that has its name."""
        file, manifest = self.file, self.manifest
        self._put(self._compressor.flush())
        with reporting(file.data):
            os.fsync(self._descriptor)
            manifest.size_bytes = os.fstat(self._descriptor).st_size
            manifest.sha256 = self._sha256.hexdigest()
            line = manifest.dumps() + b"\n"
            try:
                before = file.manifest.read_bytes() if file.data.exists() else b""
            except FileNotFoundError:
                before = b""
            replace(file.manifest, line + before)
            file.temporary.rename(file.data)
            sync_path(file.data.parent)
            if before:
                replace(file.manifest, line)
        self._close()

    def abandon(self) -> None:
        """Remove what was written; harmless after `publish`."""
        if self._descriptor >= 0:
            self._close()
            with suppress(ArchiveError):
                self.file.give_up()

    def _write(self, line: bytes) -> None:
        self.size_bytes += len(line)
        self._put(self._compressor.compress(line))

    def _put(self, content: bytes) -> None:
        self._sha256.update(content)
        with reporting(self.file.data):
            if self._descriptor < 0:
                self._open()
            write_all(self._descriptor, content)

    def _open(self) -> None:
        make_directory(self.file.data.parent)
        flags = os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor = open_private(self.file.temporary, flags)

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
