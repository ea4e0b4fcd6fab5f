"""Which blobs the files refer to: nothing records it but the messages' lines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from backscroll.contract.attachment_reading import GetAttachment
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.stores.blobs import BlobTotals, Used, references
from backscroll_worker.stores.jsonl.decoding import as_utf8
from backscroll_worker.stores.jsonl.file_names import SIDECAR_SUFFIX
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.journal import PREFIX
from backscroll_worker.stores.jsonl.slices import OpenGroup, portions
from backscroll_worker.stores.jsonl.write_batch import Group


def get_attachment(group: Group, operation: GetAttachment) -> bytes | None:
    """The bytes, if a message of the session has them attached."""
    session = group.find(operation.key)
    if not session.exists or operation.sha256 not in session.used_blobs():
        return None
    return group.directory.blobs.read(operation.sha256)


def used_blobs(directory: Directory, names: Iterable[str]) -> set[str]:
    """What these files refer to, and what only looks like it."""
    return set[str]().union(*(references(as_utf8(directory.read(name) or b"")) for name in names))


def remove_unused(open_group: OpenGroup) -> Slices[BlobTotals]:
    """Remove the blobs that no file refers to; what was removed.

    Files that are set aside count as well, as somebody may put their lines back.
    """
    with open_group() as group:
        directory = group.directory
    if not directory.blobs.path.exists():
        return BlobTotals(0, 0)
    with directory.blobs.sweeping():
        used = yield from _used(open_group, directory)

        @contextmanager
        def door() -> Iterator[Used]:
            with open_group():
                in_use = used | (directory.blobs.spared or set())

                def used_of(some: Sequence[str]) -> set[str]:
                    return in_use.intersection(some)

                yield used_of

        return (yield from directory.blobs.remove_unused(door))


def _used(open_group: OpenGroup, directory: Directory) -> Slices[set[str]]:
    """What all files refer to that are there at the end.

    Files that come meanwhile otherwise than by a group's changes, as a copy does, are read then:
    all that are left at once in the last round, so that nothing can come after it.
    """
    used, seen = set[str](), set[tuple[str, int]]()
    for is_last in (False, False, True):
        files = [each for each in _files(directory) if (each[0], each[1].inode) not in seen]
        for names in portions(files):
            with open_group():
                used |= used_blobs(directory, names)
            if not is_last:
                yield
        seen.update((name, stamp.inode) for name, stamp in files)
    return used


def _files(directory: Directory) -> list[tuple[str, Stamp]]:
    """Those that may refer to blobs: all but the journals, and the sidecars.

    What a sidecar has is what pops removed, which keeps no blob.
    """
    with naming(directory.path), os.scandir(directory.path) as entries:
        return [
            (entry.name, Stamp.of(entry.stat()))
            for entry in entries
            if entry.is_file()
            and not entry.name.startswith(PREFIX)
            and not entry.name.endswith(SIDECAR_SUFFIX)
        ]
