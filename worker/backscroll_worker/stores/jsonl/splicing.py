"""Removes a part of a session's messages, and adds others or records what is returned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll.contract.splicing import Pop, Removed, Splice
from backscroll_worker.contract.popped import in_json
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.jsonl.lines import Line, note_platform_ids
from backscroll_worker.stores.jsonl.session import Session


def splice(session: Session, operation: Splice) -> int:
    """Apply the operation."""
    if not session.takes(operation):
        return session.note(operation.op_id, CONFLICT)
    removed = _chosen(session, operation.remove)
    if removed:
        back = {each.platform_id for each in operation.messages}
        remove(session, removed, back)
    if operation.session is not None:
        session._create()
    return session.note(operation.op_id, len(removed) + session.add(operation))


def pop(session: Session, operation: Pop) -> int:
    """Apply the operation; what it returns is in the sidecar then."""
    wanted = operation.count if operation.message_ids is None else operation.message_ids
    gone = _chosen(session, wanted)
    if not gone:
        return session.note(operation.op_id, 0)
    encoded = in_json(line.message for line in gone)
    remove(session, gone)
    session.sidecar.note_popped(operation.op_id, session._now, encoded)
    session._is_described |= not session.sidecar.is_damaged  # which a repair may still read
    return session._done(operation.op_id, len(gone))


def popped(sessions: Iterable[Session], operation: Pop) -> tuple[ChatMessage, ...]:
    """What it removed, as far as one of the sessions, which its own became, has that recorded."""
    records = (each.sidecar.messages_of(operation.op_id) for each in sessions)
    return tuple(map(ChatMessage.from_dict, next(filter(None, records), ())))


def remove(session: Session, gone: Sequence[Line], back: Collection[str | None] = ()) -> None:
    """Remove these lines; those with a platform id in `back` may be stored again."""
    places = set(map(id, gone))
    session._touch()
    session._note_gone([line for line in gone if line.message.platform_id not in back])
    session._bring_back(line for line in gone if line.message.platform_id in back)
    lines = session._rewrite()
    lines[:] = [line for line in lines if id(line) not in places]
    cached = session._cached_session()
    cached.count, cached.platform_ids = len(lines), note_platform_ids(lines, {})


def has_any(session: Session, ids: tuple[str, ...]) -> bool:
    """Whether the session has one of these messages."""
    return bool(_chosen(session, ids))


def _chosen(session: Session, wanted: Removed) -> list[Line]:
    """The lines that are to be removed, of those there are."""
    if not wanted or not session.exists or not session.count:
        return []
    if isinstance(wanted, tuple):
        ids = set(wanted)
        return [line for line in session.lines if line.message.message_id in ids]
    return session.lines[-min(wanted, session.count) :] if wanted != "all" else session.lines[:]


HANDLERS: Final[dict[type[Operation], Callable[[Session, Any], int]]] = {Splice: splice, Pop: pop}
