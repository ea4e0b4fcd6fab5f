"""`Archive`: the directory with what cleanup removed; `archive.file` has one file of it.

One process writes it, the worker that holds the store's lock. Others may read it meanwhile.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, to_micros
from backscroll_worker.archive.disk import TEMPORARY, ArchiveError, reporting
from backscroll_worker.archive.file import DATA_SUFFIX, MANIFEST_SUFFIX, ArchiveFile, Manifest
from backscroll_worker.archive.writer import ArchiveWriter
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import SliceClock, Slices

_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}")
_NAME: Final = re.compile(r"[0-9]{4}-[0-9]{2}/[0-9A-Za-z-]{1,100}")
_STAMP: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_STAMP_FORMAT: Final = "%Y%m%dT%H%M%SZ"

Until = Callable[[ArchivedSession, str | None], int]
"""Until when an archived session is to go, by the dates of its messages: microseconds.

With an author only this author's messages in it.
"""

NOTHING: Final = -1
ALL: Final = 2**63 - 1


class Archive:
    """The files of one directory. Each call raises `ArchiveError` when the disk fails."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._newest: str | None = None

    def begin(self) -> ArchiveWriter:
        """A new file, whose name is later than those of all before, whatever the clock does."""
        if self._newest is None:
            self._newest = max(self._names(), default="")
        name, stamp = _named(datetime.now(UTC)), _STAMP.search(self._newest)
        if name <= self._newest and stamp is not None:
            name = _named(datetime.strptime(stamp[0], _STAMP_FORMAT) + timedelta(seconds=1))
        self._newest = name
        return ArchiveWriter(self.file(name))

    def file(self, name: str) -> ArchiveFile:
        """The file of that name, as `files` names it, or with a suffix.

        Raises `ArchiveError` for a name that an archive file cannot have.
        """
        stem = name.removesuffix(DATA_SUFFIX).removesuffix(MANIFEST_SUFFIX)
        if _NAME.fullmatch(stem) is None:
            raise ArchiveError(
                f"{name[:200]!r} is not a valid name of an archive file; "
                "'backscroll restore --list' shows them"
            )
        return ArchiveFile(self.directory, stem)

    def files(self) -> list[ArchiveFile]:
        """All files, oldest first, without those that are still being written."""
        files = [ArchiveFile(self.directory, name) for name in sorted(self._names())]
        return [file for file in files if not file.is_unfinished]

    def sweep(self) -> None:
        """Remove what a process that was killed left unfinished."""
        for path in self._paths():
            if not path.name.startswith(TEMPORARY):
                continue
            if path.name.endswith(DATA_SUFFIX):
                stem = path.name.removeprefix(TEMPORARY).removesuffix(DATA_SUFFIX)
                ArchiveFile(self.directory, f"{path.parent.name}/{stem}").give_up()
            else:
                with reporting(path):
                    path.unlink(missing_ok=True)

    def verify(self) -> list[Finding]:
        """Compare every file with its manifest: checksum, sessions and messages."""
        findings = []
        for file in self.files():
            try:
                manifest = file.check()
                if _recounted(file) != manifest:
                    raise ArchiveError(f"{file.manifest} does not match the content of its file")
            except ArchiveError as error:
                findings.append(Finding("archive", str(error), "put it back from a backup"))
        return findings

    def erase_slices(
        self,
        until: Until,
        may_match: Callable[[str], bool] | None = None,
        is_of_erased: Callable[[ArchivedSession], bool] = lambda _session: False,
    ) -> Slices[int]:
        """Remove from every file what `until` says, and return how many sessions went.

        A session with later messages stays with these alone, and is not counted; one that loses
        messages of an author is counted. `until` may be asked twice. With `may_match` only files
        with such a key are read. Forks that are `is_of_erased` forget of what they are forks. Each
        file is replaced as a whole, durably; after a crash or an error a second call finishes the
        work. Raises `ArchiveError` for a damaged file when all others are done.
        """
        self.sweep()
        erased, failures, clock = 0, list[ArchiveError](), SliceClock()
        for file in self.files():
            clock.begin()
            try:
                if may_match is None or any(map(may_match, file.load_manifest().keys)):
                    erased += yield from _erase_from(file, until, clock, is_of_erased)
            except ArchiveError as error:
                failures.append(error)
            yield
        if failures:
            raise failures[0]
        return erased

    def drop_slices(self, file: ArchiveFile, places: Container[int]) -> Slices[None]:
        """Remove sessions from a file again, by their places in it."""
        counted = itertools.count()

        def until(_: ArchivedSession, author: str | None) -> int:
            return ALL if author is None and next(counted) in places else NOTHING

        yield from _rewrite(file, until, SliceClock())

    def _names(self) -> set[str]:
        names = set[str]()
        for path in self._paths():
            stem = path.name.removesuffix(DATA_SUFFIX).removesuffix(MANIFEST_SUFFIX)
            name = f"{path.parent.name}/{stem}"
            if stem != path.name and _NAME.fullmatch(name):
                names.add(name)
        return names

    def _paths(self) -> Iterator[Path]:
        with reporting(self.directory):
            if self.directory.exists():
                for month in sorted(self.directory.iterdir()):
                    if _MONTH.fullmatch(month.name):
                        yield from month.iterdir()


def _named(moment: datetime) -> str:
    return f"{moment:%Y-%m}/{moment:{_STAMP_FORMAT}}-{new_op_id()}"


def _recounted(file: ArchiveFile) -> Manifest:
    counted = Manifest(file.sha256(), file.data.stat().st_size)
    for session, _, message in file.lines():
        if message is None:
            counted.count_session(session.info.key)
        else:
            counted.count_message(session.info.key, message)
    return counted


def _erase_from(
    file: ArchiveFile,
    until: Until,
    clock: SliceClock,
    is_of_erased: Callable[[ArchivedSession], bool],
) -> Slices[int]:
    file.check()
    is_hit, selection = False, _Selection(until)
    for session, _, message in file.lines():
        if message is None:
            selection.begin(session)
            is_hit = is_hit or selection.until != NOTHING or is_of_erased(session)
        else:
            is_hit = is_hit or selection.takes(message)
        if clock.is_over:
            yield
            clock.begin()
    if is_hit:
        return (yield from _rewrite(file, until, clock, is_of_erased))
    file.settle()  # a rewrite that was killed may have left what was erased in the manifest
    return 0


def _rewrite(
    file: ArchiveFile,
    until: Until,
    clock: SliceClock,
    is_of_erased: Callable[[ArchivedSession], bool] = lambda _session: False,
) -> Slices[int]:
    writer = ArchiveWriter(file)
    copy = _Copy(writer, _Selection(until))
    try:
        for session, line, message in file.lines():
            if message is None:
                copy.begin(_without_origin(session) if is_of_erased(session) else session)
            else:
                copy.take(line, message)
            if clock.is_over:
                yield
                clock.begin()
        copy.end()
        writer.publish()
    finally:
        writer.abandon()
    if writer.manifest.sessions == 0:
        file.remove()
    return copy.gone


def _without_origin(session: ArchivedSession) -> ArchivedSession:
    info = replace(session.info, forked_from=None, forked_upto=None)
    return replace(session, info=info)


class _Selection:
    """What is to go of one session after the other."""

    def __init__(self, until: Until) -> None:
        self._ask = until
        self.until = NOTHING

    def begin(self, session: ArchivedSession) -> None:
        self._session, self._authors = session, dict[str, int]()
        self.until = self._ask(session, None)

    def takes(self, message: ChatMessage) -> bool:
        return _sent_at(message) <= self.until or self.takes_author(message)

    def takes_author(self, message: ChatMessage) -> bool:
        """Whether it goes because of its author."""
        author = message.author
        if author is None:
            return False
        if author not in self._authors:
            self._authors[author] = self._ask(self._session, author)
        return _sent_at(message) <= self._authors[author]


class _Copy:
    """Copies what stays. A session of which nothing is left is not mentioned."""

    def __init__(self, writer: ArchiveWriter, selection: _Selection) -> None:
        self._writer = writer
        self._selection = selection
        self._session: ArchivedSession | None = None
        self.gone = 0
        """Sessions that went, or lost messages of an author."""

    def begin(self, session: ArchivedSession) -> None:
        self.end()
        self._selection.begin(session)
        self._session, self._is_begun, self._lost, self._lost_author = session, False, False, False

    def take(self, line: bytes, message: ChatMessage) -> None:
        if self._selection.takes(message):
            self._lost = True
            self._lost_author |= self._selection.takes_author(message)
        else:
            self._begin_copy()
            self._writer.copy(line, message)

    def end(self) -> None:
        """That was the session's last message."""
        if self._session is None:
            return
        if not self._lost and self._selection.until == NOTHING:
            self._begin_copy()  # it may have had no messages
        self.gone += self._lost_author or not self._is_begun

    def _begin_copy(self) -> None:
        if not self._is_begun and self._session is not None:
            self._writer.begin(self._session)
            self._is_begun = True


def _sent_at(message: ChatMessage) -> int:
    return 0 if message.created_at is None else to_micros(message.created_at)
