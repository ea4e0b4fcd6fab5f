"""A consistent copy of a store, beside the worker that writes to it, and in a bounded time.

It is made in a directory of its own beside its place, verified there, put on the disk and renamed.
A copy of a SQLite store is one file, without free pages. A copy of a JSONL store is a
directory of files as they are read by everything else; see `worker.backends.jsonl.copying`.

Not SQLite's online backup: it begins again with every commit of another process, and never ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from producer.errors import BackscrollError, StoreUnavailableError
from producer.private import create_private
from worker.backends import open_backend, store_path
from worker.backends.jsonl.copying import copy_directory
from worker.backends.sqlite.schema import APPLICATION_ID, store_errors

_HEADER_BYTES: Final = 100  # of a database; its application id is in there
_OF_A_DIRECTORY: Final = frozenset((".store.json", ".activity"))


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

    One that is there already is replaced with `replace`, and only by a copy that was verified,
    unless `skip_verify`.

    Raises `BackupError`, and the store's errors.
    """
    started, source, place = time.monotonic(), store_path(url).resolve(), target.resolve()
    _refuse(source, place, replace=replace)
    with open_backend(url, read_only=True):  # says what is wrong with what is no store
        pass
    scheme = url.partition("://")[0]
    with _beside(place) as directory:
        copy = directory / "copy"
        _copy(scheme, source, copy)
        if not skip_verify:
            _verify(f"{scheme}://{copy}")
        _sync(copy)
        size = sum(path.stat().st_size for path in _files(copy))
        _put_in_place(copy, place, directory)
    return BackupReport(str(place), size, time.monotonic() - started, not skip_verify)


def _refuse(source: Path, place: Path, *, replace: bool) -> None:
    """Nothing that exists is overwritten by mistake, and the store itself never."""
    own = {source, *(source.with_name(f"{source.name}{end}") for end in ("-wal", "-shm", ".lock"))}
    if place in own or source in place.parents or place in source.parents:
        raise BackupError(f"{place} is the store itself; name another place")
    log = place.with_name(f"{place.name}-wal")
    if log.exists() and log.stat().st_size:
        raise BackupError(f"{log} is there: {place} is in use as a store; name another place")
    if not place.exists():
        return
    if not replace:
        raise BackupError(f"{place} is there already; --replace replaces it")
    if not (_is_directory_store(place) if source.is_dir() else _is_database(place)):
        raise BackupError(f"{place} is not a backup of such a store; name another place")


def _is_database(place: Path) -> bool:
    """Whether it is a database of ours, or an empty file."""
    if not place.is_file():
        return False
    with place.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    return not header or header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _is_directory_store(place: Path) -> bool:
    """Whether it is a directory with a store's files and nothing else, or an empty one."""
    if not place.is_dir():
        return False
    entries = list(place.iterdir())
    names = {entry.name for entry in entries}
    is_whole = all(map(Path.is_file, entries)) and not names.isdisjoint(_OF_A_DIRECTORY)
    return not names or is_whole


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A private directory on the same file system, gone at the end with what is left in it."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=f".{place.name[:100]}.", dir=place.parent))
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror or error}") from None
    try:
        yield directory
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copy(scheme: str, source: Path, copy: Path) -> None:
    if scheme == "jsonl":
        copy_directory(source, copy)
        return
    create_private(copy)
    with (
        store_errors(source),
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        # One read transaction: what the worker commits meanwhile is not in it, and waits for none.
        connection.execute("VACUUM INTO ?", (str(copy),))


def _verify(url: str) -> None:
    """Look through the copy; a JSONL store's journals are carried out in it before."""
    with open_backend(url, read_only=not url.startswith("jsonl:")) as store:
        findings = store.verify()
    if findings:
        first = findings[0]
        raise StoreUnavailableError(
            f"the copy is damaged, as the store seems to be, and was not kept: {first.where}: "
            f"{first.problem}. 'backscroll check' tells more; --skip-verify keeps the copy"
        )


def _files(copy: Path) -> Iterator[Path]:
    if copy.is_dir():
        yield from copy.iterdir()
    else:
        yield copy


def _sync(copy: Path) -> None:
    for path in (*_files(copy), *([copy] if copy.is_dir() else [])):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(copy: Path, place: Path, directory: Path) -> None:
    if place.is_dir():  # a directory cannot take the place of another in one step
        place.rename(directory / "old")
    copy.replace(place)
    _sync_one(place.parent)
