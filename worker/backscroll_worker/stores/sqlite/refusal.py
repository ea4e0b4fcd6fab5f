"""The error that a caller gets for an operation that failed unexpectedly."""

from __future__ import annotations

from typing import Any

import apsw

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.operations import Append, Operation
from backscroll.contract.results import Outcome
from backscroll_worker.contract.answer_budget import out_of_memory
from backscroll_worker.stores.sqlite.failures import is_out_of_memory
from backscroll_worker.stores.sqlite.packed_ids import pack_id


def refused(
    connection: apsw.Connection, operation: Operation, error: Exception, now: int
) -> Outcome | OperationRefusedError:
    """The answer to one operation; others in the group are not affected."""
    if is_out_of_memory(error):
        return out_of_memory()
    if isinstance(error, apsw.ConstraintError) and "message_id" in str(error):
        if isinstance(operation, Append) and _is_stored(connection, operation):
            return _known(connection, operation, now)
        return OperationRefusedError(
            "a message with this operation's id is already stored, though its op id is forgotten"
        )
    return OperationRefusedError(f"the store cannot take this operation: {error}")


def _is_stored(connection: apsw.Connection, operation: Append) -> bool:
    """Whether the session has all its messages: they were imported, or the op id has expired."""
    found: Any = connection.executemany(
        "SELECT 1 FROM messages m JOIN sessions s ON s.id = m.session_id"
        " WHERE m.message_id = ? AND s.key = ?",
        [(pack_id(message_id), operation.key) for message_id in operation.message_ids],
    )
    return len(found.fetchall()) == len(operation.messages)


def _known(connection: apsw.Connection, operation: Append, now: int) -> Outcome:
    count = len(operation.messages)
    connection.execute(
        "INSERT INTO applied(op_id, applied_at, affected) VALUES (?, ?, ?)",
        (pack_id(operation.op_id), now, count),
    )
    return Outcome(count, duplicate=True)
