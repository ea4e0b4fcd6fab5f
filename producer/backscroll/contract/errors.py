"""Every error Backscroll raises, and for each whether trying the same call again can help."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeVar

# What reading raises of itself that was written by nobody we know. Not `Exception`: a signal's
# handler may raise one anywhere, which is the caller's.
STUMBLES: Final = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class BackscrollError(Exception):
    """The root: catch this to catch everything Backscroll raises on purpose.

    `retryable`: the same call may succeed later. `operation` is what was being sent, if anything
    was: then call `Producer.send(error.operation)` instead of the method. It keeps its op id, so
    it is applied once even if the server had taken it already; a new call would be a new operation.
    """

    retryable: ClassVar[bool] = False
    operation: Any = None


class InvalidInputError(BackscrollError, ValueError):
    """An argument breaks the contract; nothing was enqueued.

    `field` names the argument, `limit` the bound it broke (None where there is no number).
    """

    def __init__(self, field: str, problem: str, limit: int | None = None) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.limit = limit


class InvalidSettingError(BackscrollError, ValueError):
    """A setting or URL cannot be used as given; the message names it and what would do."""


class ServerUnavailableError(BackscrollError):
    """The queue's server did not answer, or cannot take writes now, also not after retries.

    It cannot while it starts, is a replica (READONLY), out of memory (OOM), cannot save (MISCONF)
    or lacks replicas (NOREPLICAS). It may have taken `operation` before the connection broke, so
    send it again as it is.
    """

    retryable = True


class AuthenticationFailedError(BackscrollError):
    """The server refused the user name or password."""


class ServerRefusedError(BackscrollError):
    """The server refuses what was asked, and would again (missing right, operation too large)."""


class QueueFullError(BackscrollError):
    """The queue holds as many operations as it may; nothing was enqueued.

    A producer with a spool keeps the operation there instead.
    """

    retryable = True

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(
            f"queue {queue!r} is full: it may hold {limit:,} operations. "
            "Is a worker running? `backscroll check` says."
        )
        self.queue = queue
        self.limit = limit


class SpoolFullError(BackscrollError):
    """The server takes nothing and the spool holds its maximum; the operation was not kept."""

    retryable = True

    def __init__(self, path: str, max_bytes: int) -> None:
        super().__init__(
            f"the spool {path} is full: it may hold {max_bytes:,} bytes. It empties by itself "
            "when the server takes writes again; spool_max_bytes= lets it grow further."
        )
        self.path = path
        self.max_bytes = max_bytes


class SpoolUnusableError(BackscrollError):
    """The spool's file cannot be used (in use, damaged, replaced); the operation was not kept."""


class SpoolDiskError(SpoolUnusableError):
    """The spool's disk cannot take more now (full, I/O error); the operation was not kept."""

    retryable = True


class NotConfirmedError(BackscrollError):
    """The operation was enqueued, but its confirmation did not come in time.

    A write may still be applied. Sending `operation` again is safe.
    """

    retryable = True
    operation: Any

    def __init__(self, problem: str, operation: Any) -> None:
        super().__init__(problem)
        self.operation = operation


class OperationRefusedError(BackscrollError):
    """The worker could not carry out this one operation; the message is the worker's."""


class ConflictError(BackscrollError):
    """The condition of a write did not hold: the session's last message is another, or its turn,
    or the version of its state, or the session is closed.

    Nothing was changed, and sending it again changes nothing, either. Load the session, and decide
    anew. `was_known` says that this same operation had been refused before.
    """

    def __init__(self, problem: str = "", *, was_known: bool = False) -> None:
        self.was_known = was_known
        super().__init__(
            problem
            or "the condition did not hold: the session's last message, its turn or the version of "
            "its state is another one, or it is closed; load the session and decide anew"
        )


class MalformedJobError(OperationRefusedError):
    """A job's payload is not an operation of the contract."""


class StoreUnavailableError(BackscrollError):
    """The store cannot be used right now (disk full, locked, I/O error); nothing was changed."""

    retryable = True


class StoreUnusableError(BackscrollError):
    """The store at this place will not work as it is: not a store, damaged, or too new."""


_E = TypeVar("_E", bound=BackscrollError)


def carrying(operation: Any, error: _E) -> _E:
    """`error`, which says that it was `operation` that was being sent."""
    if operation is not None:
        error.operation = operation
    return error
