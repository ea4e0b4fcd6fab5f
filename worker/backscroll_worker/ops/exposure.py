"""Which of our files other users of this machine can access; mostly files of earlier versions."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from backscroll_worker.settings import Settings
from backscroll_worker.stores import store_at

# The group may have read access, if an operator grants it; all other access is a finding.
_TOO_MUCH: Final = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


def exposed(settings: Settings) -> list[Path]:
    """The files of store and archive, and the server's directory, if other users have access."""
    return [path for path in _ours(settings) if _mode(path) & _TOO_MUCH]


def _ours(settings: Settings) -> Iterator[Path]:
    if (store := store_at(settings.store).path) is not None:
        yield from _with_contents(store)
        yield from (store.with_name(f"{store.name}{end}") for end in ("-wal", "-shm"))
    if settings.archive is not None:
        yield from _with_contents(settings.archive)
    yield settings.data_dir / "server"


def _with_contents(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from (file for file in path.rglob("*") if not file.name.endswith(".lock"))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
