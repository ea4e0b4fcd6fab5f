"""Finds a message by its id alone. There is no index: it reads files, of the newest sessions first,
as far as to tell that they do not have the id.
"""

from __future__ import annotations

from contextlib import suppress

from backscroll.contract.filters import FoundMessage
from backscroll.contract.messages import ChatMessage
from backscroll.contract.reads import GetMessage
from backscroll_worker.stores.jsonl.files import naming
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.window import AbsentError, PartReader
from backscroll_worker.stores.jsonl.write_batch import Group


def get_message(group: Group, operation: GetMessage) -> FoundMessage | None:
    """The message and its session's key; None if no session has it."""
    for _, sessions in group.newest_first():
        for session in sessions:
            message = _message(group, session, operation.message_id)
            if message is not None:
                return FoundMessage(session.key, message)
    return None


def _message(group: Group, session: Session, message_id: str) -> ChatMessage | None:
    path = group.directory.path / session.names.messages
    if session.is_on_disk:
        with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
            part = PartReader(file.fileno(), session.key, session.sidecar.created_at)
            try:
                window = part.beside(message_id, 0, 1)
            except AbsentError:
                return None
            if window is not None:
                return window.lines[window.position].message
    messages = (line.message for line in session.lines)
    return next((each for each in messages if each.message_id == message_id), None)
