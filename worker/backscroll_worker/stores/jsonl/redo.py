"""What the journals say is done to the files once more, after a kill, a power cut or a failure.

All of it can be repeated: bytes are put where they belong, at the offsets they had. Up to the
first of these a file was durable when its journal began; from there on a power cut may have left
it short, torn, or full of zeros. Whatever else stands there, somebody wrote by hand while nobody
was running. No line of theirs is overwritten: what the journal has goes behind it, or, when the
journal has a whole new content, their file is kept under another name. The log tells of both.
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
from backscroll_worker.stores.jsonl.journal import Added, FileEntry, Put, Was
from backscroll_worker.stores.jsonl.lines import control_line, joined
from backscroll_worker.stores.jsonl.temporary import TEMPORARY, rename, write_temporary
from backscroll_worker.stores.jsonl.transcript import parse

log = logging.getLogger("backscroll.store")

_LONGEST_STEM_BYTES: Final = 200


@dataclass(slots=True)
class _Fate:
    """What becomes of one file: bytes at their offsets, from its start on if it `is_whole`."""

    is_whole: bool = False
    is_gone: bool = False
    mtime: int | None = None
    parts: list[tuple[int, bytes]] = field(default_factory=list)
    was: Was = None
    earlier: _Fate | None = None

    @property
    def end(self) -> int:
        offset, content = self.parts[-1]
        return offset + len(content)


def redo(directory: Directory, entries: Iterable[FileEntry]) -> None:
    """Bring the files to where `entries` leave them, durably."""
    for name, fate in _fates(entries).items():
        with naming(directory.locate(name)):
            _redo_file(directory, name, fate)
    directory.sync()


def sync_files(directory: Directory, starts: Mapping[str, int]) -> None:
    """Make files durable that were written from `starts` on; one that is gone needs it not."""
    descriptors: dict[str, int] = {}
    with ExitStack() as opened:
        for name, start in starts.items():
            with naming(directory.locate(name)), suppress(FileNotFoundError):
                descriptor = descriptors[name] = opened.enter_context(_opened(directory, name))
                # The disk begins with all before any is waited for: less than half as long.
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, start, 0, os.POSIX_FADV_DONTNEED)
        for name, descriptor in descriptors.items():
            with naming(directory.locate(name)):
                os.fsync(descriptor)


def _fates(entries: Iterable[FileEntry]) -> dict[str, _Fate]:
    fates: dict[str, _Fate] = {}
    for entry in entries:
        if isinstance(entry, Added):
            fate = fates.setdefault(entry.name, _Fate())
            fate.parts.append((entry.offset, entry.content))
            fate.mtime = entry.mtime
        elif isinstance(entry, Put):
            fates[entry.name] = _Fate(
                is_whole=True,
                mtime=entry.mtime,
                parts=[(0, entry.content)],
                was=entry.was,
                earlier=fates.get(entry.name),
            )
        else:
            fates[entry.name] = _Fate(is_gone=True, was=entry.was, earlier=fates.get(entry.name))
    return fates


def _redo_file(directory: Directory, name: str, fate: _Fate) -> None:
    stamp = directory.stamp(name)
    if stamp is None:
        if fate.is_whole:
            _put(directory, name, fate)
        elif not fate.is_gone:
            log.warning("%s was removed by hand, and so it stays", directory.locate(name))
        return
    with _opened(directory, name) as descriptor:
        is_old = fate.was == (stamp.size, stamp.mtime_ns)
        if fate.parts and not is_old and _fits(descriptor, stamp.size, fate):
            _write(descriptor, fate, stamp)
            return
        if fate.parts and not is_old and _has_base(descriptor, fate):
            log.warning("%s was changed by hand; adding to it", directory.locate(name))
            _add_missing(descriptor, fate)
            return
        is_known = is_old or _is_earlier(descriptor, stamp, fate)
    if name.endswith(MESSAGES_SUFFIX) and not is_known:
        _set_aside(directory, name)
    if fate.is_whole:
        _put(directory, name, fate)
    elif is_known or not name.endswith(MESSAGES_SUFFIX):
        os.unlink(directory.locate(name))  # noqa: PTH108 - a string; see `locate`


def _fits(descriptor: int, size: int, fate: _Fate) -> bool:
    """Whether the file has these bytes, or what a kill or a power cut left of them."""
    # What a longer file lacks of a whole content, it may never have had: the old one may be torn.
    may_be_torn = not fate.is_whole or size <= fate.end
    end = size
    for offset, content in fate.parts:
        there = os.pread(descriptor, len(content), offset)
        is_ours = _is_torn(there, content) if may_be_torn else there == content
        if offset > end or not is_ours:
            return False
        end = max(end, offset + len(content))
    return True


def _has_base(descriptor: int, fate: _Fate) -> bool:
    """Whether the file is at least the one that was added to."""
    if not fate.is_whole:
        return True
    content = fate.parts[0][1]
    return content != b"" and os.pread(descriptor, len(content), 0) == content


def _is_torn(there: bytes, content: bytes) -> bool:
    return content.startswith(there) or all(
        byte in (0, whole) for byte, whole in zip(there, content, strict=False)
    )


def _is_earlier(descriptor: int, stamp: Stamp, fate: _Fate) -> bool:
    """Whether the file is what the journal says was there before."""
    earlier = fate.earlier
    while earlier is not None:
        if earlier.was == (stamp.size, stamp.mtime_ns):
            return True
        if earlier.parts and stamp.size <= earlier.end and _fits(descriptor, stamp.size, earlier):
            return True
        earlier = earlier.earlier
    return False


def _write(descriptor: int, fate: _Fate, stamp: Stamp) -> None:
    # Even what is there already: after a failed sync the kernel may show what the disk never got.
    for offset, content in fate.parts:
        _write_at(descriptor, content, offset)
    if fate.mtime is not None and stamp.size <= fate.end:
        set_mtime(descriptor, fate.mtime * 1000)
    os.fsync(descriptor)


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    os.lseek(descriptor, offset, os.SEEK_SET)
    write_all(descriptor, content)


def _put(directory: Directory, name: str, fate: _Fate) -> None:
    content = b"".join([content for _, content in fate.parts])
    write_temporary(directory, name, TEMPORARY, content, fate.mtime, is_synced=True)
    rename(directory, TEMPORARY, name)


def _add_missing(descriptor: int, fate: _Fate) -> None:
    """Add at the end what the file tells nothing of; what was rolled back since, it tells of."""
    size = os.fstat(descriptor).st_size
    there = os.pread(descriptor, size, 0)
    known = parse(there, "", 0).known()
    ours = parse(b"".join([content for _, content in fate.parts]), "", 0)
    lines = [line.raw for line in ours.lines if line.op_id not in known]
    records = {op_id: record for op_id, record in ours.records.items() if op_id not in known}
    if records:
        lines.append(control_line(records))
    before = b"\n" if there and not there.endswith(b"\n") else b""
    _write_at(descriptor, before + joined(lines) if lines else b"", size)
    os.fsync(descriptor)


def _set_aside(directory: Directory, name: str) -> None:
    stem = name.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore")
    kept, number = stem + EDITED_SUFFIX, 1
    while directory.stamp(kept) is not None:
        number += 1
        kept = f"{stem}.{number}{EDITED_SUFFIX}"
    rename(directory, name, kept)
    log.warning(
        "%s was changed by hand, but the session has another content since; it is kept as %s",
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
