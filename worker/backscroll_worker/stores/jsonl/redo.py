"""Applies the journals' entries to the files again, after a kill, a power cut or a failure.

All of it can be repeated: bytes are written at their offsets. Up to the first of these a file was
durable when its journal began; after it a power cut may have left the file short, torn, or filled
with zeros. Anything else there was written by hand while no worker was running. It is never
overwritten: the journal's lines are added after it, or, if the journal has a whole new content,
the edited file is kept under another name. Both are logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from backscroll.private_files import write_all
from backscroll_worker.stores.jsonl.file_names import EDITED_SUFFIX, MESSAGES_SUFFIX
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming, set_mtime
from backscroll_worker.stores.jsonl.journal import Added, FileEntry, Put, Version
from backscroll_worker.stores.jsonl.lines import control_line, joined
from backscroll_worker.stores.jsonl.transcript import parse

log = logging.getLogger("backscroll.store")

_LONGEST_STEM_BYTES: Final = 200


@dataclass(slots=True)
class _Target:
    """The state that a file has to be brought to.

    `parts` are bytes with their offsets, the whole content if it `is_whole`.
    """

    is_whole: bool = False
    is_removed: bool = False
    mtime: int | None = None
    parts: list[tuple[int, bytes]] = field(default_factory=list)
    before: Version = None
    earlier: _Target | None = None

    @property
    def end(self) -> int:
        offset, content = self.parts[-1]
        return offset + len(content)


def redo(directory: Directory, entries: Iterable[FileEntry]) -> None:
    """Bring the files to the state after `entries`, durably."""
    for name, target in _targets(entries).items():
        with naming(directory.locate(name)):
            _redo_file(directory, name, target)
    directory.sync()


def sync_files(directory: Directory, starts: Mapping[str, int]) -> None:
    """Make files durable that were written from `starts` on; removed ones are skipped."""
    descriptors: dict[str, int] = {}
    with ExitStack() as opened:
        for name, start in starts.items():
            with naming(directory.locate(name)), suppress(FileNotFoundError):
                descriptor = descriptors[name] = opened.enter_context(_opened(directory, name))
                # Start writing all of them before waiting for any: less than half the time.
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, start, 0, os.POSIX_FADV_DONTNEED)
        for name, descriptor in descriptors.items():
            with naming(directory.locate(name)):
                os.fsync(descriptor)


def _targets(entries: Iterable[FileEntry]) -> dict[str, _Target]:
    targets: dict[str, _Target] = {}
    for entry in entries:
        if isinstance(entry, Added):
            target = targets.setdefault(entry.name, _Target())
            target.parts.append((entry.offset, entry.content))
            target.mtime = entry.mtime
        elif isinstance(entry, Put):
            targets[entry.name] = _Target(
                is_whole=True,
                mtime=entry.mtime,
                parts=[(0, entry.content)],
                before=entry.before,
                earlier=targets.get(entry.name),
            )
        else:
            targets[entry.name] = _Target(
                is_removed=True, before=entry.before, earlier=targets.get(entry.name)
            )
    return targets


def _redo_file(directory: Directory, name: str, target: _Target) -> None:
    stamp = directory.stamp(name)
    if stamp is None:
        if target.is_whole:
            _put(directory, name, target)
        elif not target.is_removed:
            log.warning("%s was removed by hand; it is not restored", directory.locate(name))
        return
    with _opened(directory, name) as descriptor:
        is_old = target.before == (stamp.size, stamp.mtime_ns)
        if target.parts and not is_old and _fits(descriptor, stamp.size, target):
            _write(descriptor, target, stamp)
            return
        if target.parts and not is_old and _has_base(descriptor, target):
            log.warning(
                "%s was changed by hand; adding the missing lines to it", directory.locate(name)
            )
            _add_missing(descriptor, target)
            return
        is_known = is_old or _is_earlier(descriptor, stamp, target)
    if name.endswith(MESSAGES_SUFFIX) and not is_known:
        _keep_edited(directory, name)
    if target.is_whole:
        _put(directory, name, target)
    elif is_known or not name.endswith(MESSAGES_SUFFIX):
        directory.unlink(name)


def _fits(descriptor: int, size: int, target: _Target) -> bool:
    """Whether the file has these bytes, or what a kill or a power cut left of them."""
    # A longer file that lacks part of a whole content may be the old one, torn.
    may_be_torn = not target.is_whole or size <= target.end
    end = size
    for offset, content in target.parts:
        there = os.pread(descriptor, len(content), offset)
        is_same = _is_torn(there, content) if may_be_torn else there == content
        if offset > end or not is_same:
            return False
        end = max(end, offset + len(content))
    return True


def _has_base(descriptor: int, target: _Target) -> bool:
    """Whether the file begins with the content that was added to."""
    if not target.is_whole:
        return True
    content = target.parts[0][1]
    return content != b"" and os.pread(descriptor, len(content), 0) == content


def _is_torn(there: bytes, content: bytes) -> bool:
    return content.startswith(there) or all(
        byte in (0, whole) for byte, whole in zip(there, content, strict=False)
    )


def _is_earlier(descriptor: int, stamp: Stamp, target: _Target) -> bool:
    """Whether the file is an earlier version that the journal names."""
    earlier = target.earlier
    while earlier is not None:
        if earlier.before == (stamp.size, stamp.mtime_ns):
            return True
        if earlier.parts and stamp.size <= earlier.end and _fits(descriptor, stamp.size, earlier):
            return True
        earlier = earlier.earlier
    return False


def _write(descriptor: int, target: _Target, stamp: Stamp) -> None:
    # Bytes that are there too: after a failed sync the kernel may show what the disk lacks.
    for offset, content in target.parts:
        _write_at(descriptor, content, offset)
    if target.mtime is not None and stamp.size <= target.end:
        set_mtime(descriptor, target.mtime * 1000)
    os.fsync(descriptor)


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    os.lseek(descriptor, offset, os.SEEK_SET)
    write_all(descriptor, content)


def _put(directory: Directory, name: str, target: _Target) -> None:
    directory.replace(name, b"".join([content for _, content in target.parts]), target.mtime)


def _add_missing(descriptor: int, target: _Target) -> None:
    """Add the lines whose op ids the file has no record of; it has those of rolled-back ones."""
    size = os.fstat(descriptor).st_size
    there = os.pread(descriptor, size, 0)
    known = parse(there, "", 0).known()
    wanted = parse(b"".join([content for _, content in target.parts]), "", 0)
    lines = [line.raw for line in wanted.lines if line.op_id not in known]
    records = {op_id: record for op_id, record in wanted.records.items() if op_id not in known}
    if records:
        lines.append(control_line(records))
    before = b"\n" if there and not there.endswith(b"\n") else b""
    _write_at(descriptor, before + joined(lines) if lines else b"", size)
    os.fsync(descriptor)


def _keep_edited(directory: Directory, name: str) -> None:
    stem = name.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore")
    kept, number = stem + EDITED_SUFFIX, 1
    while directory.stamp(kept) is not None:
        number += 1
        kept = f"{stem}.{number}{EDITED_SUFFIX}"
    directory.rename(name, kept)
    log.warning(
        "%s was changed by hand, but its session was rewritten later; it is kept as %s",
        directory.locate(name),
        kept,
    )


@contextmanager
def _opened(directory: Directory, name: str) -> Iterator[int]:
    descriptor = os.open(directory.locate(name), os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
