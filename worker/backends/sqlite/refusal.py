"""What a caller is told of an operation that failed unexpectedly."""

from __future__ import annotations

import apsw

from producer.errors import OperationRefusedError
from worker.backends.budget import out_of_memory
from worker.backends.sqlite.schema import is_out_of_memory


def refusal(error: Exception) -> OperationRefusedError:
    """The error for one operation, which harms none of its neighbours."""
    if is_out_of_memory(error):
        return out_of_memory()
    if isinstance(error, apsw.ConstraintError) and "message_id" in str(error):
        return OperationRefusedError(
            "a message with this operation's id is stored already, though its op id is forgotten"
        )
    return OperationRefusedError(f"the store cannot take this operation: {error}")
