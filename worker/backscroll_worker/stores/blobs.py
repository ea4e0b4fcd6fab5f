"""The bytes of attachments: one file for each content, named by its SHA-256, beside a store.

1. Before the commit of a message, its attachments are written: to a temporary name, synced,
   renamed. So what a message refers to is there, and a kill leaves at most what none refers to.
2. After the commit of a removal, a sweep removes what no message refers to any more: in an
   erasure, a cleanup and a compaction. Nothing else removes a file, and none is ever changed.

A store has one writer, which stores and sweeps, one after the other. A sweep has slices, between
which messages are stored; theirs stay.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import OperationRefusedError, StoreUnavailableError
from backscroll.contract.messages import ChatMessage
from backscroll.private_files import make_private_folder, replacing, sync_path, write_all
from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import SliceClock, Slices

log = logging.getLogger("backscroll.store")

_TEMPORARY: Final = ".writing"
_FOLDER: Final = re.compile("[0-9a-f]{2}")
_NAME: Final = re.compile("[0-9a-f]{64}")
_REFERENCE: Final = re.compile(rb'"sha256"\s*:\s*"([0-9a-f]{64})"')
_AT_ONCE: Final = 10
_SHOWN: Final = 3

Used = Callable[[Sequence[str]], Collection[str]]
"""Which of these a message refers to."""


class BlobTotals(NamedTuple):
    """How many blobs there are, and how large they are together."""

    number: int
    size_bytes: int


class Blobs:
    """The files under `path`, a directory that is there as soon as there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spared: set[str] | None = None
        """What was written about since a sweep began, for a store that cannot ask; else None."""

    def stored(self, attachments: Iterable[Attachment]) -> tuple[Attachment, ...]:
        """Them as a message refers to them: their bytes are durably here, under `sha256`.

        Of those without bytes the `sha256` stays if they are here already. Raises
        `StoreUnavailableError` when the disk fails.
        """
        return tuple(map(self._stored, attachments))

    def keep(self, message: ChatMessage) -> ChatMessage:
        """The message with its attachments as they are stored."""
        if not message.attachments:
            return message
        return replace(message, attachments=self.stored(message.attachments))

    def filled(self, message: ChatMessage) -> ChatMessage:
        """The message with the bytes of its attachments, as far as they are intact."""
        if not message.attachments:
            return message
        return replace(message, attachments=tuple(map(self._filled, message.attachments)))

    def read(self, sha256: str) -> bytes:
        """The bytes; raises `OperationRefusedError` if they are missing or damaged."""
        path, data = self._place(sha256), None
        with _reporting(path), suppress(FileNotFoundError):
            data = path.read_bytes()
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            problem = "missing" if data is None else "damaged"
            raise OperationRefusedError(
                f"the bytes of the attachment are {problem}: {path}; put it back from a backup"
            )
        return data

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """While this is open, the store adds to `spared` what it writes a reference to."""
        self.spared = set()
        try:
            yield
        finally:
            self.spared = None

    def remove_unused(self, door: Callable[[], AbstractContextManager[Used]]) -> Slices[BlobTotals]:
        """Remove what no message refers to, while `door` is open; what was removed.

        What a killed process was writing goes, too.
        """
        sizes, clock = list[int](), SliceClock()
        for folder in self._folders():
            names, before, is_begun = self._names(folder), len(sizes), False
            while names or not is_begun:
                clock.begin()
                with door() as used, _reporting(folder):
                    if not is_begun:
                        (folder / _TEMPORARY).unlink(missing_ok=True)
                        is_begun = True
                    while names and not clock.is_over:
                        some, names = names[:_AT_ONCE], names[_AT_ONCE:]
                        sizes += self._remove(set(some) - set(used(some)))
                yield
            if len(sizes) > before:
                with _reporting(folder):
                    sync_path(folder)
        return BlobTotals(len(sizes), sum(sizes))

    def totals(self) -> BlobTotals:
        """What there is, used or not."""
        number = size_bytes = 0
        for folder in self._folders():
            for name in self._names(folder):
                with _reporting(folder), suppress(FileNotFoundError):
                    size_bytes += (folder / name).stat().st_size
                    number += 1
        return BlobTotals(number, size_bytes)

    def verify(self, used: Iterable[str], *, deep: bool) -> Iterator[Finding]:
        """What is missing of what messages refer to; if `deep`, also what is damaged."""
        missing, damaged = list[str](), list[str]()
        for sha256 in used:
            if not self._place(sha256).exists():
                missing.append(sha256)
            elif deep:
                try:
                    self.read(sha256)
                except OperationRefusedError:
                    damaged.append(sha256)
        for found, problem in ((missing, "missing"), (damaged, "damaged")):
            if found:
                shown = ", ".join(found[:_SHOWN]) + (", …" if found[_SHOWN:] else "")
                yield Finding(
                    self.path.name,
                    f"the bytes of {len(found):,} attachments are {problem}: {shown}",
                    f"put these files back from a backup of {self.path.name}",
                )

    def copy(self, used: Iterable[str], target: Blobs) -> list[str]:
        """Copy what is used into `target`, unless it is there; what is missing or damaged here."""
        lost = []
        for sha256 in used:
            if not target._place(sha256).exists():
                try:
                    target._put(sha256, self.read(sha256))
                except OperationRefusedError:
                    lost.append(sha256)
        return lost

    def _stored(self, attachment: Attachment) -> Attachment:
        data, size, sha256 = attachment.data, attachment.size, attachment.sha256
        if data is not None:
            size, sha256 = len(data), hashlib.sha256(data).hexdigest()
            self._put(sha256, data)
        elif sha256 is not None and not self._has(sha256):
            sha256 = None
        return replace(attachment, data=None, size=size, sha256=sha256)

    def _filled(self, attachment: Attachment) -> Attachment:
        if attachment.sha256 is None:
            return attachment
        try:
            return replace(attachment, data=self.read(attachment.sha256))
        except OperationRefusedError as error:
            log.warning("%s", error)
            return attachment

    def _put(self, sha256: str, data: bytes) -> None:
        path = self._place(sha256)
        if self._has(sha256, len(data)):
            return
        with _reporting(path):
            if not path.parent.is_dir():
                for folder in (self.path, path.parent):  # not the store's, which may be moved
                    make_private_folder(folder)
                sync_path(self.path)
                sync_path(self.path.parent)
            with replacing(path, path.with_name(_TEMPORARY)) as descriptor:
                write_all(descriptor, data)

    def _has(self, sha256: str, size: int | None = None) -> bool:
        """Whether it is there, durably; a process may have been killed just after the rename."""
        path = self._place(sha256)
        with _reporting(path):
            try:
                is_there = size in (None, path.stat().st_size)
            except FileNotFoundError:
                return False
            sync_path(path.parent)
        return is_there

    def _remove(self, names: Iterable[str]) -> Iterator[int]:
        """Remove these; the size of each."""
        for name in names:
            path = self._place(name)
            with _reporting(path), suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                yield size

    def _place(self, sha256: str) -> Path:
        return self.path / sha256[:2] / sha256

    def _folders(self) -> list[Path]:
        with _reporting(self.path):
            try:
                found = [entry.name for entry in self.path.iterdir()]
            except FileNotFoundError:
                return []
        return [self.path / name for name in sorted(found) if _FOLDER.fullmatch(name)]

    def _names(self, folder: Path) -> list[str]:
        with _reporting(folder), suppress(FileNotFoundError):
            return [entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
        return []


def references(content: bytes) -> set[str]:
    """What JSON refers to; perhaps also what only looks like it."""
    return {sha256.decode() for sha256 in _REFERENCE.findall(content)}


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn an OSError into the store's error."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(f"{error.filename or path}: {error.strerror}") from error
