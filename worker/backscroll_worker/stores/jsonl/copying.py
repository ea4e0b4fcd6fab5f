"""Copies a JSONL store's directory beside the worker that writes to it.

The files are copied first and the journals last. Whatever the journals say is redone in the copy,
as after a kill, and so the copy is as the store was when its last journal was copied. That holds if
no journal went away meanwhile: what it said might be in a file that had been copied before. Then
the files that changed are copied again, which takes less time from round to round.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import DIRECTORY, FILE
from backscroll_worker.stores.jsonl.journal import PREFIX
from backscroll_worker.stores.jsonl.temporary import TEMPORARY

_ROUNDS: Final = 20
_LOCK: Final = ".lock"


class _Stamp(NamedTuple):
    """By which a file that was changed differs."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def copy_directory(source: Path, target: Path) -> None:
    """Copy the store at `source` to `target`, a directory that is not there yet.

    Raises `StoreUnavailableError` when journals come and go too fast, and `OSError`.
    """
    target.mkdir(mode=DIRECTORY)
    target.chmod(DIRECTORY)
    copied: dict[str, _Stamp] = {}
    for _ in range(_ROUNDS):
        before = _journals(source)
        _copy_changed(source, target, copied)
        journals = _journals(source)
        for name in journals:
            _copy_file(source / name, target / name)
        if before <= _journals(source):
            return
        for name in journals:
            (target / name).unlink(missing_ok=True)
    raise StoreUnavailableError(
        f"{source} is written to faster than it can be copied; try again when there is less to do"
    )


def _journals(source: Path) -> set[str]:
    return {path.name for path in source.iterdir() if path.name.startswith(PREFIX)}


def _copy_changed(source: Path, target: Path, copied: dict[str, _Stamp]) -> None:
    """Bring `target` to where the files were when each was looked at."""
    found = _stamps(source)
    for name in copied.keys() - found.keys():
        (target / name).unlink(missing_ok=True)
        del copied[name]
    for name, stamp in found.items():
        if copied.get(name) != stamp and _copy_file(source / name, target / name):
            copied[name] = stamp


def _stamps(source: Path) -> dict[str, _Stamp]:
    stamps = {}
    with os.scandir(source) as entries:
        for entry in entries:
            name = entry.name
            is_passing = name == _LOCK or name.startswith((PREFIX, TEMPORARY))
            if not is_passing and entry.is_file():  # or a link to one, which may lie elsewhere
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    stamps[name] = _Stamp(
                        status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                    )
    return stamps


def _copy_file(source: Path, target: Path) -> bool:
    """Copy content and time; whether the file was still there."""
    try:
        shutil.copyfile(source, target)
        shutil.copystat(source, target)
        target.chmod(FILE)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return False
    return True
