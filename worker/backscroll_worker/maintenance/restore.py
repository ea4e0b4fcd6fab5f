"""Bringing a session back from the archive: what its files hold of it, in order, each message once.

A session may be in several files: its oldest messages by and by, then the rest. A file may also
hold what never left the store, when cleanup was killed before it deleted; it will have been
archived again. So of two pieces that share a message only the later one counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll.contract.operations import Restore
from backscroll.contract.results import Outcome, RestoreReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.file import ArchiveFile
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.pacing import SliceClock, Slices
from backscroll_worker.contract.store import Store
from backscroll_worker.contract.takeover import RestoreSession
from backscroll_worker.maintenance.erase import is_erased


@dataclass(slots=True)
class _Piece:
    """What one file has of a session."""

    session: ArchivedSession
    messages: list[ChatMessage] = field(default_factory=list)


def restore(backend: Store, archive: Archive | None, operation: Restore) -> Slices[RestoreReport]:
    """Carry out `operation`; raises `OperationRefusedError` when there is nothing to restore.

    Raises `ArchiveError` when a file is damaged that has the session, or may have it.
    """
    started, key = time.monotonic(), operation.key
    if archive is None:
        raise OperationRefusedError("the worker has no archive: BACKSCROLL_ARCHIVE is not set")
    # A cleanup that was killed may have left the very messages, out of sight, in the store.
    yield from backend.finish_removals()
    files = archive.files() if operation.file is None else [archive.file(operation.file)]
    pieces = yield from _pieces(files, key)
    tombstones = backend.tombstones()  # a file that was elsewhere may have what was erased
    pieces = [
        piece for piece in _not_superseded(pieces) if not is_erased(tombstones, piece.session)
    ]
    if not pieces:
        raise OperationRefusedError(
            f"the archive has no session {key!r}; 'backscroll restore --list' shows what it has"
        )
    messages = tuple(message for piece in pieces for message in piece.messages)
    info = replace(_info(pieces), key=operation.into or key)
    if operation.pin:
        info = replace(info, pinned=True)
    (answer,) = backend.apply(
        [RestoreSession(operation.op_id, operation.at, info.key, key, info, messages)]
    )
    if not isinstance(answer, Outcome):
        raise answer if isinstance(answer, OperationRefusedError) else TypeError(answer)
    there = len(messages) - answer.affected
    return RestoreReport(info.key, answer.affected, there, time.monotonic() - started)


def _pieces(files: list[ArchiveFile], key: str) -> Slices[list[_Piece]]:
    """What the files have of the session, in their order."""
    found, clock = list[_Piece](), SliceClock()
    for file in files:
        if key in file.load_manifest().keys:
            file.check()
            for session, _, message in file.lines():
                if session.info.key != key:
                    pass
                elif message is None:
                    found.append(_Piece(session))
                else:
                    found[-1].messages.append(message)
                if clock.is_over:
                    yield
                    clock.begin()
        if clock.is_over:
            yield
            clock.begin()
    return found


def _not_superseded(pieces: list[_Piece]) -> Iterator[_Piece]:
    """Those that no later piece has a message of, in their order."""
    seen, kept = set[str | None](), list[_Piece]()
    for piece in reversed(pieces):
        ids = {message.message_id for message in piece.messages}
        if not ids & seen:
            kept.append(piece)
        seen |= ids
    return reversed(kept)


def _info(pieces: list[_Piece]) -> SessionInfo:
    """The session as it was when it was last there."""
    infos = [piece.session.info for piece in pieces]
    return replace(infos[-1], created_at=min(info.created_at for info in infos))
