"""The attachments of a backup: those that the copy of the store refers to, and no others.

Those of a JSONL store are in its directory, those of a SQLite store in one beside the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apsw

from backscroll.private_files import make_private_directory, sync_path
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.blobs import Blobs, Used, references
from backscroll_worker.stores.jsonl.decoding import as_utf8
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.sqlite.attachments import beside, used_blobs
from backscroll_worker.stores.sqlite.failures import store_errors

_ROUNDS: Final = 5


def copy_with_blobs(source: Path, copy: Path, copy_store: Callable[[], None]) -> None:
    """Have `copy_store` make a copy, and add the attachments.

    Where one is missing, its message was removed from the store after the copy was made, so another
    is made. One that is missing again was lost before; a verification of the copy reports it.
    """
    lost: list[str] | None = None
    for _ in range(_ROUNDS):
        copy_store()
        before, lost = lost, blobs_of(source).copy(_used(copy), blobs_of(copy))
        if lost in ([], before):
            return


def put_blobs(copy: Path, place: Path) -> None:
    """Move the attachments beside a SQLite copy to its place, where the file goes afterwards."""
    new, old = beside(copy), beside(place)
    for folder in new.path.iterdir() if new.path.exists() else ():
        target = old.path / folder.name
        make_private_directory(target)
        for path in folder.iterdir():
            path.replace(target / path.name)
        sync_path(target)
    if old.path.exists():
        sync_path(old.path)


def drop_others(place: Path) -> None:
    """Remove the attachments of the backup that was replaced, as far as this one has none of them.

    Until the new file was in place, the old one needed them.
    """
    with store_errors(place), closing(_open(place)) as connection:

        @contextmanager
        def door() -> Iterator[Used]:
            def used(names: Sequence[str]) -> set[str]:
                return in_use.intersection(names)

            yield used

        in_use = set(used_blobs(connection))
        finish(beside(place).remove_unused(door))


def blobs_of(place: Path) -> Blobs:
    """The attachments of the store at that place."""
    return Directory(place).blobs if place.is_dir() else beside(place)


def _used(copy: Path) -> list[str]:
    """What the copy refers to; of a JSONL store also what only looks like it."""
    if copy.is_dir():
        files = (path for path in copy.iterdir() if path.is_file())
        return sorted(set[str]().union(*(references(as_utf8(path.read_bytes())) for path in files)))
    with store_errors(copy), closing(_open(copy)) as connection:
        return list(used_blobs(connection))


def _open(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
