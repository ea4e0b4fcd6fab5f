"""Where else messages of a session from the archive may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from backscroll_worker.contract.takeover import RestoreSession
from backscroll_worker.contract.tombstones import digest
from backscroll_worker.stores.jsonl.file_names import SIDECAR_SUFFIX, key_in_sidecar
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.session import Session


class Group(Protocol):
    """The group of operations that the restoration belongs to."""

    directory: Directory

    def find(self, key: str) -> Session:
        """The session, whether it exists or not."""

    def opened(self) -> Iterable[Session]:
        """The existing sessions that the group has to do with."""


def others(group: Group, operation: RestoreSession) -> list[Session]:
    """The other sessions that may have messages of the restored one."""
    digests = {digest("key", key).hex() for key in (operation.source, operation.key)}
    keys = {operation.source, *(session.key for session in group.opened())}
    for name in group.directory.names(SIDECAR_SUFFIX):
        if b'"restored_from"' in (group.directory.read(name) or b""):
            keys.add(key_in_sidecar(group.directory.path / name) or operation.source)
    found = [group.find(key) for key in keys if key != operation.key]
    return [
        session
        for session in found
        if session.key == operation.source or session.sidecar.restored_from in digests
    ]
