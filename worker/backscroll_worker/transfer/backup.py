"""A consistent copy of a store, beside the worker that writes to it, and in a bounded time.

It is made in a directory of its own beside its place, verified there, synced and renamed. That
directory is locked while it is in use: the next backup removes what a killed one left. A copy of a
SQLite store is one file, without free pages, beside the directory of its attachments. A copy of a
JSONL store is a directory of session files; see `stores.jsonl.copying`.

Not SQLite's online backup: it begins again with every commit of another process, and never ends.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from backscroll.contract.errors import BackscrollError, StoreUnavailableError
from backscroll.private_files import DIRECTORY, create_private, sync_path, try_lock
from backscroll_worker.stores import open_store, store_at
from backscroll_worker.stores.jsonl.activity import NAME as ACTIVITY
from backscroll_worker.stores.jsonl.copying import copy_directory
from backscroll_worker.stores.jsonl.files import BLOBS
from backscroll_worker.stores.jsonl.identity import NAME as IDENTITY
from backscroll_worker.stores.sqlite.attachments import SUFFIX as BLOBS_SUFFIX
from backscroll_worker.stores.sqlite.failures import store_errors
from backscroll_worker.stores.sqlite.schema import APPLICATION_ID, MAGIC
from backscroll_worker.transfer.backup_blobs import (
    blobs_of,
    copy_with_blobs,
    drop_others,
    put_blobs,
)

_APPLICATION_AT: Final = 68  # https://www.sqlite.org/fileformat.html#application_id
_OLD: Final = "old"
_STEPS: Final = 100_000  # of SQLite's virtual machine, between two checks for Ctrl-C


class BackupError(BackscrollError):
    """The backup could not be made; what was in its place is as it was."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was made: where, how large, in how many seconds, and whether it was verified."""

    path: str
    size_bytes: int
    seconds: float
    is_verified: bool


def back_up(
    url: str, target: Path, *, replace: bool = False, skip_verify: bool = False
) -> BackupReport:
    """Copy the store at `url` to `target`, which is there whole or not at all.

    With `replace` it may replace an earlier backup, and only by a copy that was verified, unless
    `skip_verify`. Anything else that is there stays. A link stands for what it leads to.

    Raises `BackupError`, and the store's errors.
    """
    started, source = time.monotonic(), _source(url)
    place = Path(os.path.realpath(target))
    _sweep(place)
    _refuse(source, place, replace=replace)
    with open_store(url, read_only=True):  # raises for what is not a store
        pass
    scheme = url.partition("://")[0]
    with _beside(place) as directory:
        copy = directory / "copy"
        copy_with_blobs(source, copy, partial(_copy, scheme, source, copy))
        if not skip_verify:
            _verify(f"{scheme}://{copy}")
        _sync(copy)
        size = sum(path.stat().st_size for path in _files(copy))
        size += blobs_of(copy).totals().size_bytes
        _put_in_place(copy, place, directory)
    return BackupReport(str(place), size, time.monotonic() - started, not skip_verify)


def _source(url: str) -> Path:
    path = store_at(url).path
    if path is None:
        raise BackupError(f"{url} is not on this host; it is backed up by its server's own means")
    return path.resolve()


def _refuse(source: Path, place: Path, *, replace: bool) -> None:
    """Raise `BackupError` rather than overwrite something by mistake, or the store itself."""
    ends = ("-wal", "-shm", ".lock", BLOBS_SUFFIX)
    own = {source, *(source.with_name(f"{source.name}{end}") for end in ends)}
    if not own.isdisjoint((place, *place.parents)) or place in source.parents:
        raise BackupError(f"{place} is the store itself; name another place")
    log = place.with_name(f"{place.name}-wal")
    if log.exists() and log.stat().st_size:
        raise BackupError(f"{log} is there: {place} is in use as a store; name another place")
    if not place.exists():
        return
    if not replace:
        raise BackupError(f"{place} is there already; --replace replaces it")
    if place.samefile(source):
        raise BackupError(f"{place} is the store itself, by another name; name another place")
    if place.is_dir() != source.is_dir():
        raise BackupError(f"{place} is another kind of store; name another place")
    _refuse_foreign(place)


def _refuse_foreign(place: Path) -> None:
    """Do not replace a directory that was meant to hold the backup, or a foreign file."""
    try:
        is_ours = _is_store_directory(place) if place.is_dir() else _is_database(place)
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror or error}") from None
    if not is_ours:
        raise BackupError(
            f"{place} is not a backup of a store, and is not replaced; remove it, or name another "
            "place"
        )
    with suppress(OSError):  # not every file system has locks
        if not _is_free(place):
            raise BackupError(f"{place} is in use as a store; name another place")


def _is_database(place: Path) -> bool:
    if not place.is_file():  # but a pipe or a device
        return False
    with place.open("rb") as file:
        head = file.read(100)
    number = int.from_bytes(head[_APPLICATION_AT : _APPLICATION_AT + 4])
    return not head or (head.startswith(MAGIC) and number == APPLICATION_ID)


def _is_store_directory(place: Path) -> bool:
    """Whether a store was opened there, and nothing else lies beside it."""
    with os.scandir(place) as entries:
        found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    found.pop(BLOBS, None)  # a directory
    return all(found.values()) and (not found or not found.keys().isdisjoint({ACTIVITY, IDENTITY}))


def _is_free(path: Path) -> bool:
    """Whether no worker or backup has locked it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A private directory on the same file system, removed at the end."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror or error}") from None
    try:
        directory.chmod(DIRECTORY)  # whatever the umask
        with suppress(OSError):  # not every file system locks directories
            try_lock(descriptor)
        yield directory
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _prefix(place: Path) -> str:
    return f".{place.name[:100]}.backup-"


def _sweep(place: Path) -> None:
    """Remove what killed backups left; put back what one of them was replacing."""
    for directory in place.parent.glob(f"{glob.escape(_prefix(place))}*"):
        with suppress(OSError):  # another user's, or a file system without locks
            if _is_free(directory):
                with suppress(FileNotFoundError):
                    if not place.exists():
                        (directory / _OLD).rename(place)
                shutil.rmtree(directory)


def _copy(scheme: str, source: Path, copy: Path) -> None:
    if scheme == "jsonl":
        shutil.rmtree(copy, ignore_errors=True)  # an earlier one
        copy_directory(source, copy)
        return
    copy.unlink(missing_ok=True)
    create_private(copy)
    with (
        store_errors(source),
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        connection.set_progress_handler(lambda: False, _STEPS)  # lets a Ctrl-C in
        # One read transaction: what the worker commits meanwhile is not in it, and waits for none.
        try:
            connection.execute("VACUUM INTO ?", (str(copy),))
        except apsw.FullError:  # it writes to the copy only
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


def _verify(url: str) -> None:
    """Raise `StoreUnavailableError` if the copy is damaged; a JSONL store's journal is redone."""
    with open_store(url, read_only=not url.startswith("jsonl:")) as store:
        findings = store.verify()
    if findings:
        first = findings[0]
        raise StoreUnavailableError(
            f"the copy is damaged, as the store seems to be, and was removed: {first.where}: "
            f"{first.problem}. 'backscroll check' says more; --skip-verify keeps the copy"
        )


def _files(copy: Path) -> Iterator[Path]:
    if copy.is_dir():
        yield from copy.iterdir()
    else:
        yield copy


def _sync(copy: Path) -> None:
    for path in (*_files(copy), *([copy] if copy.is_dir() else [])):
        sync_path(path)


def _put_in_place(copy: Path, place: Path, directory: Path) -> None:
    is_file = copy.is_file()
    if is_file:
        put_blobs(copy, place)
    if place.is_dir():  # a directory cannot take the place of another in one step
        place.rename(directory / _OLD)
    copy.replace(place)
    sync_path(place.parent)
    if is_file:
        drop_others(place)
