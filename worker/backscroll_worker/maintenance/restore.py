"""Restores a session from the archive: all that its files have of it, in order, each message once.

A session may be in several files: first its oldest messages, in parts, then the rest. What went by
a rule for authors is put among the others by its time. A file may also have what never left the
store, when cleanup was killed before it deleted; that was archived again. So of two parts
that share a message only the later one counts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll.contract.operations import Restore
from backscroll.contract.results import Outcome, RestoreReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.file import ArchiveFile
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.pacing import SliceClock, Slices
from backscroll_worker.contract.store import Store
from backscroll_worker.contract.takeover import RestoreSession
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.maintenance.erase import is_erased
from backscroll_worker.stores.local import keeping


@dataclass(slots=True)
class _Part:
    """The part of a session that one file has."""

    session: ArchivedSession
    messages: list[ChatMessage] = field(default_factory=list)


def restore(store: Store, archive: Archive | None, operation: Restore) -> Slices[RestoreReport]:
    """Carry out `operation`.

    Raises `OperationRefusedError` when there is nothing to restore, `ArchiveError` when a file is
    damaged that has the session or may have it, and the store's errors.
    """
    started, key = time.monotonic(), operation.key
    if archive is None:
        raise OperationRefusedError("the worker has no archive: BACKSCROLL_ARCHIVE is not set")
    # A cleanup that was killed may have left the very messages, out of sight, in the store.
    yield from store.finish_removals()
    files = archive.files() if operation.file is None else [archive.file(operation.file)]
    # A file that was elsewhere may have what was erased; and another erasure may have begun since.
    parts = yield from _parts(files, key, store, store.tombstones())
    parts = list(_not_superseded(_without_erased(parts, store.tombstones())))
    if not parts:
        raise OperationRefusedError(
            f"the archive has no session {key!r}; 'backscroll restore --list' shows what it has"
        )
    _drop_what_came_again(parts)
    messages = tuple(message for _, message in _in_order(parts))
    info = replace(_info(parts), key=operation.into or key)
    if operation.pin:
        info = replace(info, pinned=True)
    states = parts[-1].session.states
    (answer,) = store.apply(
        [RestoreSession(operation.op_id, operation.at, info.key, key, info, messages, states)]
    )
    if not isinstance(answer, Outcome):
        raise answer if isinstance(answer, OperationRefusedError) else TypeError(answer)
    there = len(messages) - answer.affected
    return RestoreReport(info.key, answer.affected, there, time.monotonic() - started)


def _parts(
    files: list[ArchiveFile], key: str, store: Store, tombstones: Tombstones
) -> Slices[list[_Part]]:
    """What the files have of the session, in their order, without what was erased."""
    found, clock, keep = list[_Part](), SliceClock(), keeping(store)
    for file in files:
        if key in file.load_manifest().keys:
            file.check()
            for session, _, message in file.lines():
                if session.info.key != key or is_erased(tombstones, session):
                    pass
                elif message is None:
                    found.append(_Part(session))
                elif not _is_of_erased(tombstones, session, message):
                    found[-1].messages.append(keep(message))
                if clock.is_over:
                    yield
                    clock.begin()
        if clock.is_over:
            yield
            clock.begin()
    return found


def _is_of_erased(tombstones: Tombstones, session: ArchivedSession, message: ChatMessage) -> bool:
    return message.author is not None and is_erased(tombstones, session, message.author)


def _without_erased(parts: list[_Part], tombstones: Tombstones) -> list[_Part]:
    parts = [part for part in parts if not is_erased(tombstones, part.session)]
    for part in parts:
        said, session = part.messages, part.session
        part.messages = [each for each in said if not _is_of_erased(tombstones, session, each)]
    return parts


def _not_superseded(parts: list[_Part]) -> Iterator[_Part]:
    """Those that no later part has a message of, in their order."""
    seen, kept = set[str | None](), list[_Part]()
    for part in reversed(parts):
        ids = {message.message_id for message in part.messages}
        if not ids & seen:
            kept.append(part)
        seen |= ids
    return reversed(kept)


def _drop_what_came_again(parts: list[_Part]) -> None:
    """Drop a message whose platform id a later part has: the platform sent it once more."""
    seen = set[str | None]()
    for part in reversed(parts):
        messages = part.messages
        part.messages = [each for each in messages if each.platform_id not in seen]
        seen |= {each.platform_id for each in messages} - {None}


def _in_order(parts: list[_Part]) -> Iterable[tuple[_Part, ChatMessage]]:
    """All their messages, each part's in its order."""
    said = [[(part, message) for message in part.messages] for part in parts]
    if any(part.session.is_of_author for part in parts):
        return heapq.merge(*said, key=lambda each: _moment(each[1]))
    return chain.from_iterable(said)


def _moment(message: ChatMessage) -> tuple[int, str, int, str]:
    """When it was said; within a platform's second by our ids, which begin with a time."""
    at = 0 if message.created_at is None else to_micros(message.created_at)
    op_id, _, number = (message.message_id or "").partition("-")
    return at, op_id, len(number), number


def _info(parts: list[_Part]) -> SessionInfo:
    """The session as it was when it was last there."""
    infos = [part.session.info for part in parts]
    return replace(infos[-1], created_at=min(info.created_at for info in infos))
