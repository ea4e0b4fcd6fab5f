"""Copies a JSONL store's directory while the worker writes to it.

The session files are copied first and the journals last. The copy redoes its journals when it is
opened, as after a kill; so it is the store as of the copy of the last journal. That requires that
no journal was removed meanwhile: its changes may be in a file that had been copied before. If one
was, the changed files are copied again, which takes less time in each round.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import DIRECTORY, FILE
from backscroll_worker.stores.jsonl.files import TEMPORARY
from backscroll_worker.stores.jsonl.journal import PREFIX

_ROUNDS: Final = 20
_LOCK: Final = ".lock"

_Version = tuple[int, int, int, int]
"""Inode, size, mtime and ctime: at least one differs after each change, of permissions too."""


def copy_directory(source: Path, target: Path) -> None:
    """Copy the store at `source` to `target`, a directory that does not exist yet.

    Raises `StoreUnavailableError` if journals are removed too fast, and `OSError`.
    """
    target.mkdir(mode=DIRECTORY)
    target.chmod(DIRECTORY)
    copied: dict[str, _Version] = {}
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


def _copy_changed(source: Path, target: Path, copied: dict[str, _Version]) -> None:
    found = _versions(source)
    for name in copied.keys() - found.keys():
        (target / name).unlink(missing_ok=True)
        del copied[name]
    for name, version in found.items():
        if copied.get(name) != version and _copy_file(source / name, target / name):
            copied[name] = version


def _versions(source: Path) -> dict[str, _Version]:
    versions = {}
    with os.scandir(source) as entries:
        for entry in entries:
            name = entry.name
            is_passing = name == _LOCK or name.startswith((PREFIX, TEMPORARY))
            if not is_passing and entry.is_file():  # or a link to a file elsewhere
                with suppress(FileNotFoundError):
                    s = entry.stat()
                    versions[name] = s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns
    return versions


def _copy_file(source: Path, target: Path) -> bool:
    """Copy content and time; returns whether the file still exists."""
    try:
        shutil.copyfile(source, target)
        shutil.copystat(source, target)
        target.chmod(FILE)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return False
    return True
